// What a person does at the dashboard, in a real browser. Started by scripts/test-browser,
// which has a node with traffic for it.
//
//   BASE         address of the node
//   ADMIN_TOKEN  what to log in with
//   LINKS        admin-ui/src/links.rs: the pages there are
//   SCREENSHOTS  where pictures go; nothing for none
//   LONGEST_S    longest that all of it may take, in seconds
//
// The last lines say what was covered, each as `fact: WHAT: NUMBER`.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { By, Key, until } from "selenium-webdriver";
import { findings } from "./accessible.mjs";
import { open } from "./browser.mjs";

const { BASE, ADMIN_TOKEN, LINKS, SCREENSHOTS, LONGEST_S } = process.env;

// Longest that anything on a page may take; a busy machine takes its time.
const WAIT_MS = 30_000;
// Most that a page may weigh as it is sent, with its style sheet, script and picture, in bytes.
const PAGE_BYTES_MAX = 60_000;
// Most keys to come to something on a page; lists of the story are short.
const KEYS_MAX = 200;
const DESKTOP = [1440, 900];
const PHONE = [390, 844];
// Pages that are also looked at in the dark: what is on all others is on these, too.
const IN_THE_DARK = ["login", "overview", "queue", "latency", "confirm"];
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
const seen = { withScripts: 0, without: 0, pictures: 0, axePages: 0, rules: 0, heaviest: 0, keys: 0 };
const check = async (name, story) => {
  const begun = Date.now();
  try {
    const told = await story();
    passed += 1;
    console.log(`ok     ${name}${told ? `: ${told}` : ""} (${Date.now() - begun} ms)`);
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

// Does what leads to another document, and waits until that is there.
const leads = async (driver, act) => {
  const before = await driver.findElement(By.css("html"));
  await act();
  await driver.wait(until.stalenessOf(before), WAIT_MS, "nothing came of it");
  await driver.wait(until.elementLocated(By.css("footer")), WAIT_MS, "the page has no end");
};
const click = (driver, element) => leads(driver, () => element.click());

// What Tab stops at.
const OPERATED = `[...document.querySelectorAll(
  "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']",
)].filter((one) => one.checkVisibility({ visibilityProperty: true }) && !one.disabled)`;

const tab = async (driver, times) => {
  await driver.actions().sendKeys(...Array.from({ length: times }, () => Key.TAB)).perform();
  seen.keys += times;
};

// Goes there by Tab and presses Enter, as somebody without a mouse does.
const enter = async (driver, element) => {
  const stops = 1 + (await driver.executeScript(`return ${OPERATED}.indexOf(arguments[0])`, element));
  assert(stops > 0 && stops <= KEYS_MAX, `it is stop ${stops} of Tab`);
  await tab(driver, stops);
  const there = await driver.executeScript("return document.activeElement.outerHTML.slice(0, 90)");
  const wanted = (await element.getAttribute("outerHTML")).slice(0, 90);
  assert(there === wanted, `Tab comes to ${there} where ${wanted} is`);
  return leads(driver, () => driver.actions().sendKeys(Key.ENTER).perform());
};

const logIn = async (driver, js) => {
  await go(driver, "/");
  const field = await driver.wait(until.elementLocated(By.id("token")), WAIT_MS);
  await field.sendKeys(ADMIN_TOKEN);
  const button = await driver.findElement(By.css("form button.primary"));
  await (js ? leads(driver, () => field.sendKeys(Key.ENTER)) : click(driver, button));
  assert((await at(driver)) === "/", `the login leads to ${await at(driver)}`);
  assert((await heading(driver)) === "Overview", "the login does not lead to the overview");
};

const letters = async (driver) => {
  await go(driver, "/ui/dead-letters/default/demo/mail");
  return driver.findElements(By.css("button[name=replay_dead_letter]"));
};

// The whole story of a person. `js` is whether scripts run; who has them uses the keyboard.
const person = async (js) => {
  const driver = await open({ js, width: DESKTOP[0], patience: WAIT_MS });
  browsers.add(driver);
  const of = js ? "with JavaScript" : "without JavaScript";
  try {
    await check(`${of}: what is asked for without a login is the login`, async () => {
      await go(driver, "/ui/streams");
      assert((await driver.findElements(By.id("token"))).length === 1, "there is no place for a token");
      return js ? inspects(driver, { name: "login" }) : "";
    });
    await check(`${of}: a wrong token opens nothing`, async () => {
      await go(driver, "/");
      await (await driver.findElement(By.id("token"))).sendKeys("nothing");
      await click(driver, await driver.findElement(By.css("form button.primary")));
      assert((await driver.findElements(By.id("token"))).length === 1, "it is let in");
      assert((await driver.findElements(By.css(".alert.bad"))).length === 1, "nothing says why");
    });
    await check(`${of}: log in`, () => logIn(driver, js));
    await check(`${of}: the traffic is seen as it comes`, () => seesTraffic(driver, js));
    if (js) await check(`${of}: a page stays live while only numbers change`, () => staysLive(driver));
    for (const page of pages) {
      await check(`${of}: ${page.name}`, () => looksAt(driver, page, js));
    }
    await check(`${of}: a page that is not there says so`, async () => {
      await go(driver, "/ui/nothing");
      assert((await heading(driver)) === "Not here", `it says: ${await heading(driver)}`);
      return js ? inspects(driver, { name: "not_found" }) : "";
    });
    await check(`${of}: the menu of a small screen leads somewhere`, () => usesMenu(driver, js));
    let replayed = "";
    await check(`${of}: a dead letter is replayed from its confirm page`, async () => {
      const [told, target] = await replays(driver, js);
      replayed = target;
      return told;
    });
    await check(`${of}: the audit log has it`, async () => {
      // The newest of all replays is the one just now, and not that of another person.
      await go(driver, "/ui/audit?operation=queue.replay");
      const row = await (await driver.findElement(By.css("main tbody tr"))).getText();
      assert(replayed !== "" && row.includes(replayed), `the newest row is not of ${replayed}: ${row}`);
    });
    await check(`${of}: log out`, async () => {
      await click(driver, await driver.findElement(By.css("form.who button")));
      await go(driver, "/ui/streams");
      assert((await driver.findElements(By.id("token"))).length === 1, "the pages are still there");
    });
    if (js) {
      await check("no page breaks its own policy or fails in the console", async () => {
        const said = await driver.manage().logs().get("browser");
        // What was refused on purpose is told as a failed request.
        const bad = said.map((one) => one.message).filter((text) => !/status of 40[134]/.test(text));
        assert(bad.length === 0, bad.slice(0, 3).join(" | "));
      });
    }
  } finally {
    browsers.delete(driver);
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
  const changed = async () => {
    if (!js) await go(driver, "/");
    return (await numbers()) !== first;
  };
  await driver.wait(changed, WAIT_MS, "no number changes");
  return `after ${Date.now() - begun} ms`;
};

// Second after second, without being told that it must be loaded again.
const staysLive = async (driver) => {
  await go(driver, "/ui/streams/default/demo/orders");
  const text = async (css) => (await driver.findElement(By.css(css))).getText();
  const note = () => text("#live");
  await driver.wait(async () => (await note()) === "Live", WAIT_MS, "it is not live");
  for (let times = 0; times < 4; times += 1) {
    const before = await text("[data-live=traffic-at]");
    const changed = async () => (await text("[data-live=traffic-at]")) !== before || (await note()) !== "Live";
    await driver.wait(changed, WAIT_MS, "nothing changes");
    assert((await note()) === "Live", `after ${times} changes it says: ${await note()}`);
  }
};

const looksAt = async (driver, page, js) => {
  await go(driver, page.path);
  const title = await heading(driver);
  assert((await driver.findElements(By.css(".error"))).length === 0, `it is an error page: ${title}`);
  const current = await driver.findElements(By.css("nav [aria-current=page]"));
  assert(current.length > 0, "the navigation does not say where one is");
  if (js) return inspects(driver, page);
  seen.without += 1;
  return "";
};

// Weight, keyboard, accessibility and pictures of the page that is open.
const inspects = async (driver, page) => {
  seen.withScripts += 1;
  const size = await driver.executeScript(`
    const page = performance.getEntriesByType("navigation")[0];
    const files = performance.getEntriesByType("resource").filter((one) => one.name.includes("/assets/"));
    return {
      page: page.encodedBodySize,
      files: files.map((one) => one.encodedBodySize),
      ms: page.responseStart - page.requestStart,
    };
  `);
  const bytes = size.files.reduce((sum, one) => sum + one, size.page);
  assert(size.files.length >= 2 && !size.files.includes(0), `its files have ${size.files.join(", ")} bytes`);
  assert(bytes <= PAGE_BYTES_MAX, `${bytes} bytes are more than ${PAGE_BYTES_MAX}`);
  seen.heaviest = Math.max(seen.heaviest, bytes);
  await isReachedByKeyboard(driver);
  await isAccessible(driver, "in the light");
  await pictures(driver, page);
  return `${bytes} bytes, first byte after ${size.ms.toFixed(1)} ms`;
};

const isAccessible = async (driver, when) => {
  const { rules, found } = await findings(driver);
  seen.axePages += 1;
  seen.rules = Math.max(seen.rules, rules);
  assert(found.length === 0, `${when}: ${found.join(" | ")}`);
};

// Tab goes through everything that can be operated, and comes back to where it began.
const isReachedByKeyboard = async (driver) => {
  const there = await driver.executeScript(`
    window.reached = new Set();
    addEventListener("focusin", (event) => window.reached.add(event.target));
    window.operated = ${OPERATED};
    document.activeElement?.blur();
    // Day, month, year and the calendar are a stop each.
    return window.operated.length + 3 * document.querySelectorAll("input[type=date]").length;
  `);
  await tab(driver, there + 2);
  const missed = await driver.executeScript(`
    return window.operated.filter((one) => !window.reached.has(one)).map((one) => one.outerHTML.slice(0, 90));
  `);
  await driver.executeScript("document.activeElement?.blur(); scrollTo({ top: 0, behavior: 'instant' })");
  assert(missed.length === 0, `Tab does not reach ${missed.length} of ${there}: ${missed[0]}`);
};

const usesMenu = async (driver, js) => {
  await resize(driver, PHONE);
  await go(driver, "/ui/queues");
  await (await driver.findElement(By.css("a.menu"))).click();
  const link = await driver.findElement(By.css("nav#nav a[href='/ui/storage']"));
  await driver.wait(until.elementIsVisible(link), WAIT_MS, "the menu does not open");
  if (js) await picture(driver, "menu", PHONE, "light");
  await click(driver, link);
  assert((await at(driver)) === "/ui/storage", `it leads to ${await at(driver)}`);
  await driver.sendDevToolsCommand("Emulation.clearDeviceMetricsOverride", {});
};

const replays = async (driver, js) => {
  const press = js ? enter : click;
  const before = await letters(driver);
  assert(before.length > 0, "there is no dead letter");
  await press(driver, before[0]);
  assert((await at(driver)) === "/ui/confirm", `it leads to ${await at(driver)}`);
  const asked = await heading(driver);
  assert(/Replay dead letter/.test(asked), `it asks: ${asked}`);
  // What it says that the audit log will say; of a letter, as long as it is one, only once.
  const target = await (await driver.findElement(By.css(".audit div:last-child code"))).getText();
  const told = js ? await inspects(driver, { name: "confirm" }) : "";
  assert((await letters(driver)).length === before.length, "looking at the confirm page did something");
  await press(driver, (await letters(driver))[0]);
  await press(driver, await driver.findElement(By.css("main form[method=post] button")));
  assert((await driver.findElements(By.css(".alert"))).length > 0, "nothing says what became of it");
  // It becomes a dead letter again only when somebody takes it and fails.
  assert((await letters(driver)).length === before.length - 1, "the letter is still there");
  return [told, target];
};

const resize = (driver, [width, height]) =>
  driver.sendDevToolsCommand("Emulation.setDeviceMetricsOverride", {
    width, height, deviceScaleFactor: 1, mobile: width < 500,
  });
const scheme = (driver, value) =>
  driver.sendDevToolsCommand("Emulation.setEmulatedMedia", {
    features: value ? [{ name: "prefers-color-scheme", value }] : [],
  });

// At both widths and, of some, by day and by night; at neither is it wider than the screen.
const pictures = async (driver, page) => {
  const dark = IN_THE_DARK.includes(page.name);
  for (const size of [DESKTOP, PHONE]) {
    await resize(driver, size);
    await driver.executeScript("scrollTo({ top: 0, behavior: 'instant' })");
    const wide = await driver.executeScript("return document.documentElement.scrollWidth");
    assert(wide <= size[0], `at ${size[0]} px it is ${wide} px wide`);
    for (const one of dark ? ["light", "dark"] : ["light"]) {
      await scheme(driver, one);
      await picture(driver, page.name, size, one);
    }
  }
  await driver.sendDevToolsCommand("Emulation.clearDeviceMetricsOverride", {});
  if (dark) await isAccessible(driver, "in the dark");
  await scheme(driver, "");
};

const picture = async (driver, name, [width], colours) => {
  if (!SCREENSHOTS) return;
  const { data } = await driver.sendAndGetDevToolsCommand("Page.captureScreenshot", {
    captureBeyondViewport: true,
    clip: await driver.executeScript(`return {
      x: 0, y: 0, width: ${width}, scale: 1,
      height: Math.min(6000, document.documentElement.scrollHeight),
    }`),
  });
  writeFileSync(`${SCREENSHOTS}/${name}-${width}-${colours}.png`, data, "base64");
  seen.pictures += 1;
};

// Whatever hangs, hangs no longer than this; the browsers go with it.
const browsers = new Set();
setTimeout(async () => {
  console.log(`FAILED it is not done after ${LONGEST_S} s`);
  const quits = [...browsers].map((driver) => driver.quit().catch(() => {}));
  await Promise.race([Promise.all(quits), new Promise((done) => setTimeout(done, 5_000))]);
  process.exit(1);
}, LONGEST_S * 1_000).unref();

if (SCREENSHOTS) mkdirSync(SCREENSHOTS, { recursive: true });
assert(pages.length >= 20, `only ${pages.length} pages were found in ${LINKS}`);
await person(true);
await person(false);
console.log(`\nfact: pages with JavaScript: ${seen.withScripts}`);
console.log(`fact: pages without JavaScript: ${seen.without}`);
console.log(`fact: keys pressed on them: ${seen.keys}`);
console.log(`fact: screenshots: ${seen.pictures}`);
console.log(`fact: accessibility rules: ${seen.rules}`);
console.log(`fact: pages held by those rules: ${seen.axePages}`);
console.log(`fact: heaviest page, bytes: ${seen.heaviest}`);
console.log(`\n${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
