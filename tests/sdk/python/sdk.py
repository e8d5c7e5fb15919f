"""Signs or verifies with one of the official PyPI SDKs.

python sdk.py SDK sign|verify < messages

Messages are a JSON array on stdin. `sign` prints an array of signatures; `verify`
prints an array of truths.
"""

import json
import sys
from datetime import datetime, timezone
from importlib import import_module

sdk, action = sys.argv[1:]
webhooks = import_module(f"{sdk}.webhooks")


def sign(message):
    at = datetime.fromtimestamp(message["timestamp"], tz=timezone.utc)
    webhook = webhooks.Webhook(message["secret"])
    return webhook.sign(message["id"], at, message["body"])


def verify(message):
    try:
        webhooks.Webhook(message["secret"]).verify(message["body"], message["headers"])
        return True
    except webhooks.WebhookVerificationError:
        return False


run = sign if action == "sign" else verify
print(json.dumps([run(message) for message in json.load(sys.stdin)]))
