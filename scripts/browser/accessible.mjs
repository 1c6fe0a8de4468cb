// What axe-core finds on a page, of WCAG 2.2 AA, that is serious.
import { readFileSync } from "node:fs";

const source = readFileSync(new URL("./node_modules/axe-core/axe.min.js", import.meta.url), "utf8");
const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];

// What is serious, in words, and how many rules were asked.
export const findings = async (driver) => {
  await driver.executeScript(source);
  const result = await driver.executeAsyncScript(
    `const done = arguments[arguments.length - 1];
     axe.run(document, { runOnly: { type: "tag", values: arguments[0] } }).then(done, (error) => done({ error: String(error) }));`,
    TAGS,
  );
  if (result.error) throw new Error(`axe-core failed: ${result.error}`);
  const { violations, passes, incomplete, inapplicable } = result;
  return {
    rules: violations.length + passes.length + incomplete.length + inapplicable.length,
    found: violations
      .filter((one) => one.impact === "serious" || one.impact === "critical")
      .map((one) => `${one.id} (${one.nodes.length}): ${one.help}: ${one.nodes[0].html.slice(0, 120)}`),
  };
};
