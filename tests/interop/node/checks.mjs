// One line a check, as every client program of the interop suites prints them.
let failed = 0;

export async function check(name, body) {
  try {
    const value = await body();
    console.log(`CHECK PASS ${name}`);
    return value;
  } catch (error) {
    failed += 1;
    const cause = error.cause ? ` [${JSON.stringify(error.cause, Object.getOwnPropertyNames(error.cause)).slice(0, 400)}]` : "";
    console.log(`CHECK FAIL ${name}: ${String(error.message ?? error).replaceAll("\n", " ")}${cause}`);
    return undefined;
  }
}

export function require(condition, why) {
  if (!condition) throw new Error(why);
}

// `body` must be refused with this OAuth error.
export async function refused(error, body) {
  try {
    await body();
  } catch (caught) {
    const got = caught.error ?? caught.cause?.error;
    require(got === error, `expected ${error}, got ${got ?? caught}`);
    return;
  }
  throw new Error(`expected ${error}, but it was granted`);
}

export function done() {
  console.log("CHECK DONE");
  process.exit(failed ? 1 : 0);
}
