// Signs or verifies with one of the official npm SDKs.
//
//   node sdk.cjs FOLDER SDK sign|verify < messages
//
// FOLDER is where the SDKs are installed. Messages are a JSON array on stdin. `sign`
// prints an array of signatures; `verify` prints an array of truths.
const { createRequire } = require("node:module");
const { readFileSync } = require("node:fs");

const [folder, sdk, action] = process.argv.slice(2);
const { Webhook, WebhookVerificationError } = createRequire(folder + "/")(sdk);
const messages = JSON.parse(readFileSync(0, "utf8"));

function sign({ secret, id, timestamp, body }) {
  return new Webhook(secret).sign(id, new Date(timestamp * 1000), body);
}

function verify({ secret, headers, body }) {
  try {
    new Webhook(secret).verify(body, headers);
    return true;
  } catch (error) {
    if (!(error instanceof WebhookVerificationError)) throw error;
    return false;
  }
}

console.log(JSON.stringify(messages.map(action === "sign" ? sign : verify)));
