// What a person does at the dashboard, in a real browser. Started by scripts/test-browser,
// which has a node with traffic for it.
//
//   BASE         address of the node
//   ADMIN_TOKEN  what to log in with
//   LINKS        admin-ui/src/links.rs: the pages there are
//   SCREENSHOTS  where pictures go; nothing for none
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { By, Key, until } from "selenium-webdriver";
import { findings } from "./accessible.mjs";
import { open } from "./browser.mjs";

const { BASE, ADMIN_TOKEN, LINKS, SCREENSHOTS } = process.env;

// Longest that anything on a page may take; a busy machine takes its time.
const WAIT_MS = 30_000;
// Most that a page may weigh, in bytes, before any compression.
const PAGE_BYTES_MAX = 60_000;
const PARTS = { tenant: "default", namespace: "demo" };
const NAMES = { stream: "orders", queue: "jobs", in_flight: "jobs", dead_letters: "mail", cache: "prices" };

// Every page of the dashboard, by the table that the router is made from.
const pages = [...readFileSync(LINKS, "utf8").matchAll(/\(\s*"([a-z_]+)",\s*"(\/[^"]*)",?\s*\)/g)].map(
  ([, name, path]) => ({
    name,
    path: path.replace(/\{\*?([a-z]+)\}/g, (_, part) => PARTS[part] ?? NAMES[name]),
  }),
);

let passed = 0;
let failed = 0;
const check = async (name, story) => {
  try {
    const told = await story();
    passed += 1;
    console.log(`ok    ${name}${told ? `: ${told}` : ""}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED ${name}: ${error.message}`);
  }
};
const assert = (holds, what) => {
  if (!holds) throw new Error(what);
};

const at = async (driver) => new URL(await driver.getCurrentUrl()).pathname;
const heading = async (driver) => (await driver.findElement(By.css("h1"))).getText();
const go = (driver, path) => driver.get(BASE + path);

// Presses what leads to another document, and waits until it is there.
const press = async (driver, element) => {
  const before = await driver.findElement(By.css("html"));
  await element.click();
  await driver.wait(until.stalenessOf(before), WAIT_MS);
  await driver.wait(until.elementLocated(By.css("footer")), WAIT_MS);
};

const logIn = async (driver) => {
  await go(driver, "/");
  const field = await driver.wait(until.elementLocated(By.id("token")), WAIT_MS);
  await field.sendKeys(ADMIN_TOKEN);
  await press(driver, await driver.findElement(By.css("form button.primary")));
  assert((await at(driver)) === "/", `the login leads to ${await at(driver)}`);
  assert((await heading(driver)) === "Overview", "the login does not lead to the overview");
};

const letters = async (driver) => {
  await go(driver, "/ui/dead-letters/default/demo/mail");
  return driver.findElements(By.css("button[name=replay_dead_letter]"));
};

// The whole story of a person. `js` is whether scripts run.
const person = async (js) => {
  const driver = await open({ js, width: 1440 });
  const of = js ? "with JavaScript" : "without JavaScript";
  try {
    await check(`${of}: what is asked for without a login is the login`, async () => {
      await go(driver, "/ui/streams");
      assert((await driver.findElements(By.id("token"))).length === 1, "there is no place for a token");
    });
    await check(`${of}: a wrong token opens nothing`, async () => {
      await go(driver, "/");
      await (await driver.findElement(By.id("token"))).sendKeys("nothing");
      await press(driver, await driver.findElement(By.css("form button.primary")));
      assert((await driver.findElements(By.id("token"))).length === 1, "it is let in");
      assert((await driver.findElements(By.css(".alert.bad"))).length === 1, "nothing says why");
    });
    await check(`${of}: log in`, () => logIn(driver));
    await check(`${of}: the traffic is seen as it comes`, () => seesTraffic(driver, js));
    for (const page of pages) {
      await check(`${of}: ${page.name}`, () => looksAt(driver, page, js));
    }
    await check(`${of}: a dead letter is replayed from its confirm page`, () => replays(driver));
    await check(`${of}: the audit log has it`, async () => {
      await go(driver, "/ui/audit");
      const text = await (await driver.findElement(By.css("main"))).getText();
      assert(/replay/.test(text), "no row speaks of a replay");
    });
    await check(`${of}: log out`, async () => {
      await press(driver, await driver.findElement(By.css("form.who button")));
      await go(driver, "/ui/streams");
      assert((await driver.findElements(By.id("token"))).length === 1, "the pages are still there");
    });
    if (js) {
      await check("no page breaks its own policy or fails in the console", async () => {
        const said = await driver.manage().logs().get("browser");
        // A login that was refused, and a page that asks for one, are told as failed requests.
        const bad = said.map((one) => one.message).filter((text) => !/status of 40[13]/.test(text));
        assert(bad.length === 0, bad.slice(0, 3).join(" | "));
      });
    }
  } finally {
    await driver.quit();
  }
};

// A number on the overview becomes another one: by itself, or when the page is loaded anew.
const seesTraffic = async (driver, js) => {
  await go(driver, "/");
  const numbers = async () => {
    const places = await driver.findElements(By.css(".tile .big, td[data-live=n]"));
    return (await Promise.all(places.map((place) => place.getText()))).join("|");
  };
  const first = await numbers();
  assert(/[1-9]/.test(first), `nothing but noughts: ${first}`);
  const begun = Date.now();
  await driver.wait(async () => {
    if (!js) await go(driver, "/");
    return (await numbers()) !== first;
  }, WAIT_MS);
  return `after ${Date.now() - begun} ms`;
};

const looksAt = async (driver, page, js) => {
  await go(driver, page.path);
  const title = await heading(driver);
  const failed = await driver.findElements(By.css(".alone-page, [data-status]"));
  assert(failed.length === 0, `it is an error page: ${title}`);
  assert(!/^(Not |Something went wrong|Too many)/.test(title), `it says: ${title}`);
  const current = await driver.findElements(By.css("nav [aria-current=page]"));
  assert(current.length > 0 || page.name === "confirm", "the navigation does not say where one is");
  if (!js) return "";
  const size = await driver.executeScript(
    "const e = performance.getEntriesByType('navigation')[0];" +
      "return { bytes: e.decodedBodySize, ms: e.responseStart - e.requestStart };",
  );
  assert(size.bytes <= PAGE_BYTES_MAX, `${size.bytes} bytes are more than ${PAGE_BYTES_MAX}`);
  await isReachedByKeyboard(driver);
  const found = await findings(driver);
  assert(found.length === 0, found.join(" | "));
  await pictures(driver, page);
  return `${size.bytes} bytes, first byte after ${size.ms.toFixed(1)} ms`;
};

// Tab goes through everything that can be operated, and comes back to where it began.
const isReachedByKeyboard = async (driver) => {
  const there = await driver.executeScript(`
    window.reached = new Set();
    addEventListener("focusin", (event) => window.reached.add(event.target));
    window.operated = [...document.querySelectorAll(
      "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']",
    )].filter((one) => one.checkVisibility({ visibilityProperty: true }) && !one.disabled);
    document.activeElement?.blur();
    return window.operated.length;
  `);
  const keys = Array.from({ length: there + 2 }, () => Key.TAB);
  await driver.actions().sendKeys(...keys).perform();
  const missed = await driver.executeScript(`
    return window.operated.filter((one) => !window.reached.has(one)).map((one) => one.outerHTML.slice(0, 90));
  `);
  assert(missed.length === 0, `Tab does not reach ${missed.length} of ${there}: ${missed[0]}`);
};

const replays = async (driver) => {
  const before = await letters(driver);
  assert(before.length > 0, "there is no dead letter");
  await press(driver, before[0]);
  assert((await at(driver)) === "/ui/confirm", `it leads to ${await at(driver)}`);
  const asked = await heading(driver);
  assert(/Replay dead letter/.test(asked), `it asks: ${asked}`);
  assert((await letters(driver)).length === before.length, "looking at the confirm page did something");
  await press(driver, (await letters(driver))[0]);
  await press(driver, await driver.findElement(By.css("main form[method=post] button")));
  assert((await driver.findElements(By.css(".alert"))).length > 0, "nothing says what became of it");
  // It becomes a dead letter again only when somebody takes it and fails.
  assert((await letters(driver)).length === before.length - 1, "the letter is still there");
};

const pictures = async (driver, page) => {
  if (!SCREENSHOTS) return;
  for (const [width, height] of [[1440, 900], [390, 844]]) {
    for (const scheme of ["light", "dark"]) {
      await driver.sendDevToolsCommand("Emulation.setEmulatedMedia", {
        features: [{ name: "prefers-color-scheme", value: scheme }],
      });
      await driver.sendDevToolsCommand("Emulation.setDeviceMetricsOverride", {
        width, height, deviceScaleFactor: 1, mobile: width < 500,
      });
      const wide = await driver.executeScript("return document.documentElement.scrollWidth");
      assert(wide <= width, `at ${width} px it is ${wide} px wide`);
      const picture = await driver.sendAndGetDevToolsCommand("Page.captureScreenshot", {
        captureBeyondViewport: true,
        clip: await driver.executeScript(`return {
          x: 0, y: 0, width: ${width}, scale: 1,
          height: Math.min(6000, document.documentElement.scrollHeight),
        }`),
      });
      writeFileSync(`${SCREENSHOTS}/${page.name}-${width}-${scheme}.png`, picture.data, "base64");
    }
  }
  await driver.sendDevToolsCommand("Emulation.clearDeviceMetricsOverride", {});
  await driver.sendDevToolsCommand("Emulation.setEmulatedMedia", { features: [] });
};

if (SCREENSHOTS) mkdirSync(SCREENSHOTS, { recursive: true });
assert(pages.length >= 20, `only ${pages.length} pages were found in ${LINKS}`);
await person(true);
await person(false);
console.log(`\n${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
