// Verifies deliveries with the stock library of Standard Webhooks, as a bot would.
// In:  {"package": folder of standardwebhooks, "secret": text, "deliveries": [{"body": base64, "headers": {name: text}}]}
// Out: [true, or the text of the library's error]
const { readFileSync } = require("node:fs");

const { package: folder, secret, deliveries } = JSON.parse(readFileSync(0, "utf8"));
const { Webhook } = require(folder);
const verifier = new Webhook(secret);
const results = deliveries.map(({ body, headers }) => {
  try {
    verifier.verify(Buffer.from(body, "base64"), headers, { jsonParse: false });
    return true;
  } catch (error) {
    return error.message;
  }
});
process.stdout.write(JSON.stringify(results));
