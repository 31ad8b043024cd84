"""Runs the checks that are named, or all of them, and counts."""

import sys

from . import client, hub_login, linkedin, live, meta, s3, stage, teams, telegram, whatsapp, x

CHECKS = {
    "telegram": telegram.run,
    "whatsapp": whatsapp.run,
    "meta": meta.run,
    "x": x.run,
    "linkedin": linkedin.run,
    "teams": teams.run,
    "login": hub_login.run,
    "live": live.run,
    "client": client.run,
    "s3": s3.run,
}


def main():
    wanted = sys.argv[1:] or list(CHECKS)
    if unknown := [name for name in wanted if name not in CHECKS]:
        sys.exit(f"There is no check {unknown[0]}. Checks: {', '.join(CHECKS)}")
    with hub_login.OAuthServer() as oauth, s3.Bucket() as bucket:
        there = stage.Stage({**oauth.settings(), **bucket.settings()})
        there.oauth, there.bucket = oauth, bucket
        try:
            there.wait()
            for name in wanted:
                with stage.check(f"{name}: runs to its end"):
                    CHECKS[name](there)
                # Whatever a check did to the sandbox, the next one finds it as it was.
                there.deliver_to(there.hub)
                stage.call("POST", f"{there.sandbox}/control/reset")
        finally:
            there.stop()
    failed = sum(not held for _, held in stage.outcomes)
    print(f"\n{len(stage.outcomes) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


main()
