// A browser that asks nobody for anything but the node.
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Builder, Capabilities, logging } from "selenium-webdriver";
import { Options, ServiceBuilder } from "selenium-webdriver/chrome.js";

const { CHROMIUM = "/usr/bin/chromium", CHROMEDRIVER = "/usr/bin/chromedriver" } = process.env;

export const open = async ({ js, width, patience }) => {
  const profile = mkdtempSync(join(tmpdir(), "pinion-browser-"));
  const options = new Options()
    .setChromeBinaryPath(CHROMIUM)
    .addArguments(
      "--headless=new",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--disable-dev-shm-usage",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-default-apps",
      "--disable-sync",
      "--hide-scrollbars",
      `--user-data-dir=${profile}`,
      `--window-size=${width},900`,
    );
  // 2 is to block; pages without scripts are what people with such a browser see.
  if (!js) options.setUserPreferences({ "profile.managed_default_content_settings.javascript": 2 });
  const prefs = new logging.Preferences();
  prefs.setLevel(logging.Type.BROWSER, logging.Level.SEVERE);
  options.setLoggingPrefs(prefs);
  const driver = await new Builder()
    .withCapabilities(Capabilities.chrome())
    .setChromeOptions(options.setAcceptInsecureCerts(true))
    .setChromeService(new ServiceBuilder(CHROMEDRIVER))
    .build();
  // Each page is sent whole, as to somebody who comes for the first time.
  await driver.sendDevToolsCommand("Network.enable", {});
  await driver.sendDevToolsCommand("Network.setCacheDisabled", { cacheDisabled: true });
  await driver.manage().setTimeouts({ implicit: 0, pageLoad: patience, script: patience });
  return driver;
};
