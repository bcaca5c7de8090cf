// Speaks Sparkplug B with the library of Eclipse Tahu. Each line of the input is a
// payload: "decode HEX" is answered by it as JSON, "encode JSON" by its bytes as hex.
const modules = process.argv[2];
const payloads = require(modules + "/sparkplug-payload").get("spBv1.0");
const lines = require("fs").readFileSync(0, "utf8").trim().split("\n");
const plain = (key, value) => {
  if (value && typeof value === "object" && "low" in value && "high" in value) {
    return require(modules + "/long").fromValue(value).toString();
  }
  return value;
};
for (const line of lines) {
  const [verb, rest] = [line.slice(0, 6), line.slice(7)];
  if (verb === "decode") {
    console.log(JSON.stringify(payloads.decodePayload(Buffer.from(rest, "hex")), plain));
  } else {
    console.log(Buffer.from(payloads.encodePayload(JSON.parse(rest))).toString("hex"));
  }
}
