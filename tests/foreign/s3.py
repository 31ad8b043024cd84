"""moto's S3 as the place where the hub keeps media: puts, parts, lists and deletes, each of them signed.

moto works the signature of every request out anew, with botocore, and refuses what it finds another
one for; Amazon's own client, boto3, looks what is in the bucket.
"""

import json
import logging
import os
import urllib.request
import uuid

# The first calls make somebody who may; from then on everything is checked.
os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "3"

import boto3  # noqa: E402
import botocore.exceptions  # noqa: E402
from moto.server import ThreadedMotoServer  # noqa: E402

from .stage import call, check, free_port, location, same, true, within  # noqa: E402

NAME = "hub-media"
REGION = "eu-central-1"
PNG = b"\x89PNG\r\n\x1a\n a picture of a teapot"
# Longer than one piece that is read at once, and no two places of it look the same.
MP4 = b"\0\0\0\x20ftypisom" + b"".join(number.to_bytes(4, "big") for number in range(400_000))


class Bucket:
    """A bucket, and who may use it."""

    def __enter__(self):
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.start()
        iam = boto3.client("iam", **self._who("anybody", "nothing"))
        iam.create_user(UserName="hub")
        everything = {"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
        iam.put_user_policy(UserName="hub", PolicyName="media", PolicyDocument=json.dumps(everything))
        key = iam.create_access_key(UserName="hub")["AccessKey"]
        self.key, self.secret = key["AccessKeyId"], key["SecretAccessKey"]
        self.s3 = boto3.client("s3", **self._who(self.key, self.secret))
        self.s3.create_bucket(Bucket=NAME, CreateBucketConfiguration={"LocationConstraint": REGION})
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self.server.start()

    def stop(self):
        self.server.stop()

    def _who(self, key, secret):
        return {"endpoint_url": self.endpoint, "region_name": REGION,
                "aws_access_key_id": key, "aws_secret_access_key": secret}

    def settings(self):
        """What the hub is told of it."""
        return {
            "HUB_MEDIA_BUCKET": NAME, "HUB_MEDIA_S3_ENDPOINT": self.endpoint,
            "HUB_MEDIA_S3_REGION": REGION, "HUB_MEDIA_S3_ACCESS_KEY_ID": self.key,
            "HUB_MEDIA_S3_SECRET_ACCESS_KEY": self.secret,
        }

    def objects(self):
        """What is in it: names and contents."""
        listed = self.s3.list_objects_v2(Bucket=NAME).get("Contents", [])
        return {one["Key"]: self.s3.get_object(Bucket=NAME, Key=one["Key"])["Body"].read() for one in listed}


def run(stage):
    bucket = stage.bucket
    with check("s3: who does not know the secret is refused, so signatures are looked at"):
        try:
            boto3.client("s3", **bucket._who(bucket.key, "wrong")).list_objects_v2(Bucket=NAME)
        except botocore.exceptions.ClientError as refusal:
            same("the refusal", refusal.response["Error"]["Code"], "SignatureDoesNotMatch")
        else:
            true("it was let in", False)
    email = f"{uuid.uuid4()}@hub.local"
    token = stage.person(email)
    page = str(uuid.uuid4().int)[:15]
    call("POST", f"{stage.sandbox}/control/pages", {"id": page, "name": "Teapots"})
    begun = call("GET", f"{stage.hub}/api/oauth/connect/facebook", token=token)[2]
    back, _ = location(begun["authorizationUrl"])
    end, outcome = location(back)
    same(f"the outcome at {end}", outcome.get("success"), "true")

    with check("s3: a picture is kept in the bucket, sealed, and served from it"):
        url = _arrives(stage, token, page, "picture.png", "image", PNG)
        status, headers, _ = call("GET", url)
        same("the status", status, 200)
        same("the type", headers["content-type"], "image/png")
        same("the bytes", _bytes(url)[1], PNG)
        kept = bucket.objects()
        same("the number of objects", len(kept), 1)
        true("it is in the clear", b"teapot" not in b"".join(kept.values()))

    with check("s3: any part of a film is served, and the whole of it"):
        url = _arrives(stage, token, page, "film.mp4", "video", MP4)
        same("the whole", _bytes(url)[1] == MP4, True)
        for first, last in [(0, 0), (65_535, 65_536), (1_000_000, 1_200_000), (len(MP4) - 1, len(MP4) - 1)]:
            status, part, headers = _bytes(url, f"bytes={first}-{last}")
            same("the status", status, 206)
            same("the part", part == MP4[first:last + 1], True)
            same("its place", headers["content-range"], f"bytes {first}-{last}/{len(MP4)}")

    with check("s3: while the service is away nothing is lost, and nothing waits for a person"):
        bucket.stop()
        try:
            _writes(stage, page, "late.png", "image", PNG)
            away = call("GET", url)[0]
            same("the status of a film meanwhile", away, 503)
        finally:
            bucket.start()
        url = within(90, "the late picture", lambda: _newest(stage, token))
        same("the bytes", _bytes(url)[1], PNG)

    with check("s3: what belongs to an erased person is deleted"):
        same("the number of objects", len(bucket.objects()), 3)
        answer = call("DELETE", f"{stage.hub}/api/auth/me", {"password": "certify-certify-1"}, token)
        true(f"erasing answered {answer[0]} {answer[2]}", answer[0] < 300)
        within(20, "an empty bucket", lambda: not bucket.objects())
        same("the status of an address", call("GET", url)[0], 404)


def _bytes(url, part=None):
    request = urllib.request.Request(url, headers={"range": part} if part else {})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
        return answer.status, answer.read(), answer.headers


def _writes(stage, page, name, kind, content):
    same("the shelf", call("PUT", f"{stage.sandbox}/control/media/{name}", content)[0], 200)
    status, _, answer = call("POST", f"{stage.sandbox}/control/incoming", {
        "platform": "facebook", "account": page, "from": {"id": "501", "name": "Mira Vogel"},
        "media": {"kind": kind, "name": name}})
    same(f"the status of /control/incoming ({answer})", status, 200)


def _newest(stage, token):
    """The address of the newest message's medium, once it has one."""
    conversations = call("GET", f"{stage.hub}/api/conversations", token=token)[2]["conversations"]
    if not conversations:
        return None
    thread = call("GET", f"{stage.hub}/api/messages/{conversations[0]['id']}", token=token)[2]
    return thread["messages"][0]["mediaUrl"]


def _arrives(stage, token, page, name, kind, content):
    before = _newest(stage, token)
    _writes(stage, page, name, kind, content)

    def other():
        now = _newest(stage, token)
        return now if now != before else None

    return within(30, f"{name} in the thread", other)
