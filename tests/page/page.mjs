// The pack in ComfyUI's page, as a person uses it. Prints what it saw as JSON, for tests/test_page.py to judge.
// node page.mjs CHROMIUM ADDRESS EXAMPLES SAMPLES SHOTS
import fs from 'node:fs';
import path from 'node:path';
import {chromium} from 'playwright-core';

const [program, address, examples, samples, shots] = process.argv.slice(2);
const RUN_MS = 240_000, DIALOG_MS = 20_000, SETTLE_MS = 1500;
const seen = {examples: {}, errors: []};

const browser = await chromium.launch({
  executablePath: program, args: ['--no-sandbox', '--autoplay-policy=no-user-gesture-required']});
try {
  const page = await open();
  seen.loading = seen.errors.splice(0);
  seen.firstRun = await firstRun(page);
  for (const file of fs.readdirSync(examples).filter(name => name.endsWith('.json')).sort()) {
    await drop(page, path.join(examples, file));
    seen.examples[path.parse(file).name] = await nodes(page);
    await show(page, path.parse(file).name);
  }
  seen.run = await runTwice(page);
  seen.cancel = await cancelAndGoOn(page);
  seen.help = await help(page);
  await page.evaluate(() => app.extensionManager.setting.set('Comfy.Locale', 'zh'));
  await page.waitForTimeout(2 * SETTLE_MS);
  seen.translated = await help(page, '_zh');
} finally {
  await browser.close();
}
console.log(JSON.stringify(seen));

async function open() {
  const context = await browser.newContext({viewport: {width: 1700, height: 1100}});
  const page = await context.newPage();
  page.on('pageerror', error => seen.errors.push(error.message));
  await page.goto(`http://${address}/`, {waitUntil: 'domcontentloaded'});
  await page.waitForFunction(
    () => window.app?.graph && window.LiteGraph?.registered_node_types.FilmOpenVINOLoader, null, {timeout: 120_000});
  await page.waitForTimeout(2 * SETTLE_MS);
  await page.getByRole('dialog').waitFor({timeout: DIALOG_MS}).catch(() => {}); // the templates that a first visit shows
  await page.keyboard.press('Escape');
  await page.evaluate(() => app.extensionManager.setting.set('Comfy.Minimap.Visible', false));
  await page.evaluate(() => {
    window.told = [];
    const kinds = ['progress', 'progress_text', 'b_preview', 'execution_success', 'execution_error',
      'execution_interrupted'];
    for (const kind of kinds)
      app.api.addEventListener(kind, ({detail}) =>
        told.push({kind, value: detail?.value, max: detail?.max, text: detail?.text}));
  });
  return page;
}

// The first run as the README tells it, click by click, from the open page to the clip.
async function firstRun(page) {
  let clicks = 0;
  const click = async press => { clicks += 1; await press(); };
  page.on('filechooser', () => {}); // from now on no dialog opens; when the first is waited for, it may be too late
  const began = Date.now();
  for (const text of ['Templates', 'film-openvino', 'two_photos'])
    await click(() => page.getByText(text, {exact: true}).first().click());
  await page.waitForFunction(() => app.graph._nodes.some(({type}) => type === 'LoadImage'));
  await page.getByRole('dialog').waitFor({state: 'hidden'});
  for (const [title, name] of [['First photo', 'first.png'], ['Last photo', 'last.png']]) {
    const [x, y] = await uploadButton(page, title);
    const chooser = page.waitForEvent('filechooser');
    const uploaded = page.waitForResponse(response => response.url().endsWith('/upload/image'));
    await click(() => page.mouse.click(x, y));
    await (await chooser).setFiles(path.join(samples, name));
    await uploaded;
  }
  let told;
  await click(async () => { told = await run(page, 'execution_success'); });
  await page.waitForFunction(() => document.querySelector('video')?.readyState >= 2);
  const seconds = (Date.now() - began) / 1000;
  await page.screenshot({path: path.join(shots, 'first_run.png')});
  return {clicks, seconds, told, clip: await played(page)};
}

// Where on the page the upload button of a node is, once the view has come to rest.
async function uploadButton(page, title) {
  const place = () => page.evaluate(title => {
    const node = app.graph._nodes.find(node => node.title === title);
    const button = node.widgets.find(({type}) => type === 'button');
    const [x, y] = app.canvas.ds.convertOffsetToCanvas([node.pos[0] + node.size[0] / 2, node.pos[1] + button.y + 10]);
    const {left, top} = app.canvasEl.getBoundingClientRect();
    return [left + x, top + y];
  }, title);
  let before, now = await place();
  do {
    before = now;
    await page.waitForTimeout(SETTLE_MS);
    now = await place();
  } while (String(before) !== String(now));
  return now;
}

async function drop(page, file) {
  const [name, text] = [path.basename(file), fs.readFileSync(file, 'utf8')];
  await page.evaluate(([name, text]) => {
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([text], name, {type: 'application/json'}));
    app.canvasEl.dispatchEvent(new DragEvent('drop', {dataTransfer, bubbles: true, cancelable: true}));
  }, [name, text]);
  await page.waitForTimeout(2 * SETTLE_MS);
}

// What the page holds of each node: whether it knows it, marks it red, or offers another choice than the one it has.
function nodes(page) {
  return page.evaluate(() => app.graph._nodes.map(node => ({
    type: node.type,
    known: node.type in LiteGraph.registered_node_types,
    red: Boolean(node.has_errors),
    wrong: (node.widgets ?? []).filter(({type, options, value}) =>
      type === 'combo' && Array.isArray(options?.values) && !options.values.includes(value)).map(({name}) => name),
  })));
}

async function show(page, name) {
  await page.mouse.click(850, 1000);
  await page.keyboard.press('.'); // fit everything into the view
  await page.waitForTimeout(SETTLE_MS);
  await page.screenshot({path: path.join(shots, `${name}.png`)});
}

// Press Run; resolve when `kind` was told. What was told comes back.
async function run(page, kind, meanwhile = async () => {}) {
  await page.evaluate(() => { told.length = 0; });
  await page.getByText('Run', {exact: true}).first().click();
  await meanwhile();
  await page.waitForFunction(
    kind => told.some(event => event.kind === kind || event.kind === 'execution_error'), kind, {timeout: RUN_MS});
  return page.evaluate(() => told.slice());
}

function frames(page, count) {
  return page.waitForFunction(
    count => told.filter(({kind}) => kind === 'progress').length >= count, count, {timeout: RUN_MS});
}

async function played(page) {
  await page.waitForFunction(() => [...document.querySelectorAll('video')].at(-1)?.readyState, null, {timeout: RUN_MS});
  return page.evaluate(async () => {
    const video = [...document.querySelectorAll('video')].at(-1);
    video.muted = video.loop = true;
    await video.play();
    const from = video.currentTime;
    await new Promise(resolve => setTimeout(resolve, 400));
    return {moved: video.currentTime !== from, width: video.videoWidth, seconds: video.duration};
  });
}

async function runTwice(page) {
  await drop(page, path.join(examples, 'two_photos.json'));
  const first = await run(page, 'execution_success', async () => {
    await frames(page, 5);
    await page.screenshot({path: path.join(shots, 'running.png')});
  });
  await page.waitForTimeout(SETTLE_MS);
  const clip = await played(page);
  await show(page, 'played');
  await set(page, 'FilmOpenVINORecursiveInterpolate', 'times_to_interpolate', 2);
  return {first, clip, again: await run(page, 'execution_success')};
}

async function cancelAndGoOn(page) {
  await drop(page, path.join(examples, 'slow_motion.json'));
  await set(page, 'LoadVideo', 'file', 'large_clip.mp4');
  await set(page, 'FilmOpenVINOInterpolateVideo', 'multiplier', 2);
  let text;
  const cancelled = await run(page, 'execution_interrupted', async () => {
    await frames(page, 4);
    text = await page.getByText('frames/s').first().textContent({timeout: RUN_MS});
    await page.screenshot({path: path.join(shots, 'running_video.png')});
    await page.evaluate(() => app.extensionManager.command.execute('Comfy.Interrupt'));
  });
  const again = await run(page, 'execution_success');
  await page.waitForTimeout(SETTLE_MS);
  const clip = await played(page);
  await show(page, 'played_video');
  return {cancelled, again, clip, text};
}

function set(page, type, name, value) {
  return page.evaluate(([type, name, value]) => {
    const node = app.graph._nodes.find(node => node.type === type);
    node.widgets.find(widget => widget.name === name).value = value;
  }, [type, name, value]);
}

// Each node alone, and its help page beside it.
async function help(page, suffix = '') {
  const titles = {};
  const ids = await page.evaluate(
    () => Object.keys(LiteGraph.registered_node_types).filter(id => id.startsWith('FilmOpenVINO')));
  for (const id of ids) {
    await page.evaluate(id => {
      app.graph.clear();
      const node = LiteGraph.createNode(id);
      app.graph.add(node);
      node.pos = [0, 0];
      app.canvas.selectNode(node);
      app.canvas.ds.scale = 1.4;
      app.canvas.ds.offset = [500, 150];
      app.canvas.setDirty(true, true);
    }, id);
    await page.waitForTimeout(SETTLE_MS / 3);
    await page.evaluate(() => app.extensionManager.command.execute('Comfy.Canvas.OpenNodeHelp').catch(() => {}));
    const button = page.locator('.help-button, [data-testid="info-button"]').first();
    if (await button.count()) await button.click();
    await page.waitForTimeout(SETTLE_MS);
    titles[id] = await page.locator('.node-help-content h1').first().textContent({timeout: 10_000}).catch(() => null);
    await page.screenshot({path: path.join(shots, `${id}${suffix}.png`)});
  }
  return titles;
}
