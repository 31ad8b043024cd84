"""python-telegram-bot as the bot's owner: it asks, it sends, and its server takes the webhooks."""

import asyncio
import json
import threading
import urllib.parse

from telegram import Bot, Message, Update
from telegram.error import BadRequest, Conflict, InvalidToken
from telegram.ext import Application, MessageHandler, filters

from .stage import TELEGRAM_SECRET, TELEGRAM_TOKEN, Recorder, check, free_port, same, true

PATH = "api/webhooks/telegram"
CUSTOMER = 4242
# What an account's owner chooses, to tell it from what the sandbox begins with.
SECRET = "Certified_secret-7"


def run(stage):
    asyncio.run(_asks(stage))
    _serves(stage)


async def _asks(stage):
    at = {"base_url": f"{stage.sandbox}/bot", "base_file_url": f"{stage.sandbox}/file/bot"}
    async with Bot(TELEGRAM_TOKEN, **at) as bot:
        with check("telegram: getMe is a bot that python-telegram-bot knows"):
            me = await bot.get_me()
            same("id and kind", (str(me.id), me.is_bot), (TELEGRAM_TOKEN.split(":")[0], True))
            true("the bot has no user name", me.username)
        with check("telegram: sendMessage gives a Message, and the sandbox has it"):
            sent = await bot.send_message(CUSTOMER, "Grüße ☕ from afar", disable_notification=True)
            same("what came back", (type(sent), sent.chat.id, sent.text), (Message, CUSTOMER, "Grüße ☕ from afar"))
            kept = [one for one in stage.sent("telegram") if one["platformMessageId"] == str(sent.message_id)]
            same("what the sandbox kept", [(one["to"], one["text"]) for one in kept], [(str(CUSTOMER), sent.text)])
        with check("telegram: refusals are the errors the library has for them"):
            for wrong in (lambda: bot.send_message(0, "nobody"), lambda: bot.send_message(CUSTOMER, "x" * 4097)):
                try:
                    await wrong()
                except BadRequest:
                    continue
                raise AssertionError("a wrong sendMessage was taken")
            try:
                await Bot(TELEGRAM_TOKEN + "x", **at).initialize()
            except InvalidToken:
                pass
            else:
                raise AssertionError("a wrong token was taken")
        with check("telegram: setWebhook and getWebhookInfo agree"):
            url = f"{stage.hub}/{PATH}"
            true("setWebhook is not true", await bot.set_webhook(
                url, secret_token=SECRET, max_connections=7, allowed_updates=[Update.MESSAGE]))
            info = await bot.get_webhook_info()
            same("the info", (info.url, info.max_connections, tuple(info.allowed_updates)), (url, 7, ("message",)))
        with check("telegram: getUpdates is refused while a webhook is set"):
            try:
                await bot.get_updates()
            except Conflict as refusal:
                true(f"the refusal is {refusal}", "webhook is active" in str(refusal))
            else:
                raise AssertionError("getUpdates was answered")
        with check("telegram: the Update parser reads what a webhook brings"):
            recorder = Recorder()
            stage.deliver_to(recorder.base)
            number, status = stage.customer("telegram", CUSTOMER, "Is the blue one in stock? ☕")
            headers, raw = recorder.next()
            same("the hook's answer", status, 200)
            same("the secret", headers["x-telegram-bot-api-secret-token"], SECRET)
            update = Update.de_json(json.loads(raw), bot)
            same("the message", (str(update.message.message_id), update.message.text,
                 update.effective_user.full_name, update.effective_chat.type),
                 (number, "Is the blue one in stock? ☕", "Mira Vogel", "private"))
            same("fields the parser does not know", dict(update.message.api_kwargs), {})
        with check("telegram: after deleteWebhook the same bot polls"):
            await bot.delete_webhook()
            number, _ = stage.customer("telegram", CUSTOMER, "And the red one?")
            updates = await bot.get_updates(timeout=0)
            same("the update", [one.message.text for one in updates], ["And the red one?"])
            same("once confirmed", await bot.get_updates(offset=updates[-1].update_id + 1, timeout=0), ())


def _serves(stage):
    """The library's own server, which checks the secret by itself."""
    port, came = free_port(), []
    listening, ended = threading.Event(), threading.Event()

    async def serve():
        builder = Application.builder().token(TELEGRAM_TOKEN)
        application = builder.base_url(f"{stage.sandbox}/bot").build()

        async def take(update, _context):
            came.append(update.message.text)

        application.add_handler(MessageHandler(filters.TEXT, take))
        async with application:
            await application.start()
            await application.updater.start_webhook(
                "127.0.0.1", port, PATH, secret_token=SECRET, webhook_url=f"http://127.0.0.1:{port}/{PATH}")
            listening.set()
            while not ended.is_set():
                await asyncio.sleep(0.05)
            await application.updater.stop()
            await application.stop()

    server = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    server.start()
    try:
        with check("telegram: the library's webhook server accepts the sandbox's secret, and only it"):
            true("it does not listen", listening.wait(10))
            stage.deliver_to(f"http://127.0.0.1:{port}")
            _, status = stage.customer("telegram", CUSTOMER, "signed")
            same("the server's answer", status, 200)
            asyncio.run(_set(stage, "Another_secret"))
            stage.deliver_to(f"http://127.0.0.1:{port}")
            _, status = stage.customer("telegram", CUSTOMER, "forged")
            same("its answer to another secret", status, 403)
            same("what it handled", came, ["signed"])
    finally:
        ended.set()
        server.join(10)
        asyncio.run(_set(stage, TELEGRAM_SECRET))


async def _set(stage, secret):
    async with Bot(TELEGRAM_TOKEN, base_url=f"{stage.sandbox}/bot") as bot:
        await bot.set_webhook(urllib.parse.urljoin(stage.hub, f"/{PATH}"), secret_token=secret)
