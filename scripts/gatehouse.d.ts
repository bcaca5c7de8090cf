/**
 * What a Gatehouse script (*.js or *.ts in the rules folder) can call. Nothing else of
 * the machine can be reached: no other file, no process, no eval.
 *
 * A script's top level says what it hears; handlers, filters and timers run later,
 * one at a time, each within a deadline (100 ms of processor time unless configured
 * otherwise). What one of them publishes, keeps in `state` and sets as timers comes
 * into force when it returns; if it throws or overruns, none of it does.
 *
 * For an editor: /// <reference path="gatehouse.d.ts" />
 */

/** Quality of service, MQTT 5.0 §4.3. */
type QoS = 0 | 1 | 2;

/** Milliseconds, or text such as "10s", "1h30m", "250ms". */
type Interval = number | string;

/** A name and a value; names may repeat. */
type UserProperty = [name: string, value: string];

/** What MQTT 5.0 carries beside the payload. What is absent is undefined. */
interface Properties {
  contentType?: string;
  /** Where an answer is wanted. */
  responseTopic?: string;
  /** Belongs to responseTopic. */
  correlationData?: Uint8Array;
  userProperties: UserProperty[];
  /** Seconds until the message is worthless. */
  expiry?: number;
}

/** A message that a handler or a filter hears. */
interface Message {
  /** The topic name. */
  topic: string;
  /** Its levels: "home/hall/door" is ["home", "hall", "door"]. */
  readonly parts: string[];
  /**
   * The payload, read as JSON when it is first touched. Throws if it is not JSON,
   * longer than 1 MiB, nested deeper than 300 or of more than 65,536 values. Integers
   * beyond 2^53 lose digits when calculated with, but an unchanged payload is passed
   * on byte by byte.
   */
  payload: any;
  /** The payload as text; bytes that are not UTF-8 become U+FFFD. */
  text: string;
  /** A copy of the payload's bytes. */
  bytes: Uint8Array;
  /** The level that it was published at. */
  qos: QoS;
  retain: boolean;
  properties: Properties;
  /** Who published: client/ID, device/NAME, rule/NAME, plugin/NAME or uplink/NAME. */
  readonly origin: string;
  /** When the broker took it. */
  readonly at: Date;
}

interface RuleOptions {
  /** The rule's name in logs and the API; what it is ("on FILTER", "at 07:30") if absent. */
  name?: string;
  /** What it would publish and request is shown, not done. */
  shadow?: boolean;
  /** false: as if it was not there. */
  enabled?: boolean;
}

interface HandlerOptions extends RuleOptions {
  /**
   * The level to hear at; 0 if absent. Above it the message is acknowledged when what
   * the handler did is kept, so that a handler may run twice for it, and what comes
   * while the gateway is off waits. Only what a handler does before its first await
   * counts.
   */
  qos?: QoS;
  /** Hear also what is retained when the script comes into force; msg.retain tells. */
  retained?: boolean;
}

interface ScheduleOptions extends RuleOptions {
  /**
   * What becomes of what was due while the gateway was off, asleep or without a clock:
   * "run" makes it good, once, "skip" does not, and an interval is how late it may be;
   * an hour if absent.
   */
  missed?: "run" | "skip" | Interval;
}

/** What a schedule's handler is told. */
interface Due {
  /** "at 07:30", or "start". */
  schedule: string;
  /** Milliseconds since it was due, if that is more than 90 s and it is made good; else 0. */
  late: number;
}

/** What a named timer's handler is told. */
interface TimerInfo {
  name: string;
  id: string;
  /** Milliseconds since it was due, if that is more than 90 s as the gateway was off; else 0. */
  late: number;
}

interface RequestOptions {
  /** GET if absent, POST with a body. */
  method?: "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS";
  /** 64 at most. */
  headers?: Record<string, string | number | boolean>;
  /** As in {@link publish}; what becomes JSON is sent as application/json. */
  body?: any;
  /** Of one try; "10s" if absent, "1m" at most. */
  timeout?: Interval;
  /** More tries, with a growing pause, if it fails or gives 429 or 5xx; 10 at most. */
  retries?: number;
}

interface LaterOptions extends RequestOptions {
  /** Of the {@link reply} that gets it. */
  name: string;
  /** For the reply: JSON, 64 KiB at most. */
  data?: any;
  /** A request of the same name and id that is on its way is not made twice. */
  id?: string;
}

interface Reply {
  /** 0 with an error. */
  readonly status: number;
  /** Whether the status is 200 to 299. */
  readonly ok: boolean;
  /** With names in lower case. */
  readonly headers: Record<string, string>;
  /** The body as JSON; throws if it is not. At most 1 MiB of a body is kept. */
  readonly payload: any;
  readonly text: string;
  readonly bytes: Uint8Array;
  /** Why there is none. */
  readonly error?: string;
}

interface FilterOptions {
  /** What becomes of a message when the filter throws, overruns or cannot run; "reject" if absent. */
  on_error?: "reject" | "pass";
  /** The rule's name in logs and the API; "filter FILTER" if absent. */
  name?: string;
  /** false: as if it was not there. */
  enabled?: boolean;
}

interface PublishOptions {
  /** 0 if absent. */
  qos?: QoS;
  /** Keep it as the retained message of its topic; an empty payload clears that. */
  retain?: boolean;
  contentType?: string;
  responseTopic?: string;
  correlationData?: string | Uint8Array | ArrayBuffer;
  /** An object, or pairs if names repeat; 64 at most. */
  userProperties?: Record<string, string> | UserProperty[];
  /** Seconds, or text such as "90s"; the message is worthless after it. */
  expiry?: Interval;
}

/** Fields that a filter may return; what is absent stays as it was. */
interface Replacement {
  topic?: string;
  /** As in {@link publish}. */
  payload?: any;
  /** Instead of payload. */
  text?: string;
  /** Instead of payload. */
  bytes?: Uint8Array | ArrayBuffer;
  qos?: QoS;
  retain?: boolean;
  contentType?: string;
  responseTopic?: string;
  correlationData?: string | Uint8Array | ArrayBuffer;
  userProperties?: Record<string, string> | UserProperty[];
  expiry?: Interval;
  properties?: PublishOptions | Properties;
}

type Handler = (msg: Message) => void | Promise<void>;

/** Nothing or true passes the message, false drops it, anything else replaces it. */
type Verdict = void | undefined | boolean | Message | Replacement;
type Filter = (msg: Message) => Verdict | Promise<Verdict>;

/** Names a timer. */
type Timer = string & { readonly __timer: unique symbol };

/**
 * Calls the handler with each message that was routed and that one of the topic
 * filters matches. Only at the top level.
 */
declare function on(filter: string | string[], handler: Handler): void;
declare function on(filter: string | string[], options: HandlerOptions, handler: Handler): void;

/**
 * Asks the function about each message before it is routed. It may change msg and
 * return it, return some fields, or return false to drop it. It cannot publish, set
 * timers or wait. Only at the top level.
 */
declare function filter(filter: string | string[], handler: Filter): void;
declare function filter(filter: string | string[], options: FilterOptions, handler: Filter): void;

/**
 * Runs at the times of a cron expression in the configured zone: minute, hour, day,
 * month, weekday; a sixth field before them is seconds. Only at the top level, as at,
 * sun, start and hook.
 */
declare function cron(times: string | string[], handler: (due: Due) => void | Promise<void>): void;
declare function cron(times: string | string[], options: ScheduleOptions, handler: (due: Due) => void | Promise<void>): void;
/** Runs at times of the day: "07:30". */
declare function at(times: string | string[], handler: (due: Due) => void | Promise<void>): void;
declare function at(times: string | string[], options: ScheduleOptions, handler: (due: Due) => void | Promise<void>): void;
/** Runs by the sun, at rules.place: "sunrise", "sunset - 30m", "dawn", "dusk + 1h". */
declare function sun(times: string | string[], handler: (due: Due) => void | Promise<void>): void;
declare function sun(times: string | string[], options: ScheduleOptions, handler: (due: Due) => void | Promise<void>): void;
/** Runs when the gateway starts; a script that is loaded later does not run it. */
declare function start(handler: (due: Due) => void | Promise<void>): void;
declare function start(options: RuleOptions, handler: (due: Due) => void | Promise<void>): void;
/** Runs when the webhook of that name is called; the message has the topic $hook/NAME. */
declare function hook(name: string, handler: Handler): void;
declare function hook(name: string, options: RuleOptions, handler: Handler): void;

/**
 * Handles timers of a name, which {@link after} sets. They survive new versions of the
 * file that have the handler, the end of the script worker, and the gateway's.
 */
declare function timer<T = any>(name: string, handler: (data: T, info: TimerInfo) => void | Promise<void>): void;
declare function timer<T = any>(
  name: string,
  options: Pick<ScheduleOptions, "missed" | "shadow">,
  handler: (data: T, info: TimerInfo) => void | Promise<void>,
): void;
/**
 * Sets the timer of that name and id ("" if absent), instead of one that stands. data
 * is JSON, 64 KiB at most. In a shadow rule this is shown, not done, unless the handler
 * of the timer is one, too.
 */
declare function after(interval: Interval, name: string, data?: any, options?: { id?: string }): void;
/** Stops the timer of that name and id. */
declare function cancel(name: string, id?: string): void;

/**
 * Calls a function of a plugin and waits for what it gives; in handlers and filters, not
 * at the top level. Arguments and result are JSON, 1 MiB at most; 16 calls an event.
 * The time that it takes, which the plugin bounds, does not count as the event's. Throws
 * if the function fails, is late, or is not there.
 */
declare function plugin<T = any>(name: string, ...args: any[]): T;

/**
 * Makes an HTTP request once the event is over, to a host that the configuration
 * allows. What waits for the reply goes on as an event of its own; if the gateway or
 * the script worker ends meanwhile, it does not. Rejects if no try gave a reply.
 */
declare function http(url: string, options?: RequestOptions): Promise<Reply>;
declare namespace http {
  /**
   * The same for a reply that is wanted in any case: at least once, across restarts. In a
   * shadow rule the request is shown, not sent, and no reply is handled.
   */
  function later(url: string, options: LaterOptions): void;
}
/** Handles replies to {@link http.later}; data is what that was given. */
declare function reply<T = any>(name: string, handler: (reply: Reply, data: T, info: { name: string }) => void | Promise<void>): void;
declare function reply<T = any>(
  name: string,
  options: Pick<RuleOptions, "shadow">,
  handler: (reply: Reply, data: T, info: { name: string }) => void | Promise<void>,
): void;

/**
 * A promise that is kept after so long. What follows is an event of its own, and does
 * not come if the gateway or the script worker ends meanwhile, or the file changes: use
 * {@link after} for what must.
 */
declare function sleep(interval: Interval): Promise<void>;

/**
 * Publishes: a string is the payload as it is, a Uint8Array or ArrayBuffer its bytes,
 * everything else its JSON. An event may publish 1000 messages and 4 MiB.
 */
declare function publish(
  topic: string,
  value: string | number | boolean | null | object,
  options?: PublishOptions,
): void;

/**
 * What the script remembers: JSON values that survive new versions of the file and
 * restarts. get gives a copy, undefined if there is none. At most 10,000 keys and 1 MiB.
 */
declare const state: {
  get(key: string): any;
  /** undefined removes the key. */
  set(key: string, value: any): void;
  delete(key: string): void;
  /** In alphabetical order. */
  keys(): string[];
  /** Sets what f makes of the value, and gives it: update("n", (n = 0) => n + 1). */
  update<T = any>(key: string, f: (value: T | undefined) => T): T;
  /** Lets other scripts read these keys; "room/*" is all that begin so. At the top level. */
  share(...keys: string[]): void;
};

/** What another script shares of its state, to read. */
interface Shared {
  /** As the state was shortly before the event; undefined if there is none, or no such script. */
  get(key: string): any;
  keys(): string[];
}
/** The state that the script of that path in the folder shares. Only at the top level. */
declare function shared(file: string): Shared;

/**
 * Has {@link last} know the last message on the topics that a filter matches: what is
 * retained when the script comes into force, what comes then, and what the version of
 * the file before has heard on topics that it watched. 4000 topics and 1 MiB
 * are remembered; what was heard longest ago goes first. Only at the top level.
 */
declare function watch(filter: string | string[]): void;
/** The last message on a topic that is watched, undefined if there is none. */
declare function last(topic: string): Readonly<Message> | undefined;

/**
 * Numbers by key ("" if it is left out), which survive as the state does. Their time is
 * that which has passed, whatever the wall clock is set to.
 */
interface NumberWindow {
  add(value: number): void;
  add(key: string, value: number): void;
  count(key?: string): number;
  sum(key?: string): number;
  /** This and the following are undefined if there is no value. */
  mean(key?: string): number | undefined;
  min(key?: string): number | undefined;
  max(key?: string): number | undefined;
  median(key?: string): number | undefined;
  /** The exponential moving average, with a weight of 2/(count+1). */
  ema(key?: string): number | undefined;
  /** By how much it grows a second, between the first value and the last. */
  rate(key?: string): number | undefined;
  first(key?: string): number | undefined;
  last(key?: string): number | undefined;
  /** The oldest first. */
  values(key?: string): number[];
}
/**
 * Makes a window of the last values (1000 at most), or of those of so long a time, or
 * both. A window without a name is kept by its place among those of the file. A script
 * has 50 windows, 1000 keys and 20,000 values together; what was touched longest ago
 * goes first. Only at the top level.
 */
declare function window(options: { last?: number; over?: Interval; name?: string }): NumberWindow;

interface PaceOptions<A extends any[]> {
  /** Tells calls apart: each value, of at most 500 bytes, goes by itself; 1000 at once. */
  key?: (...args: A) => string;
  /** What it is kept by; the name of f, or the interval and a number, if absent. */
  name?: string;
}

/**
 * A function that calls f once it was not called for so long, with what it was called
 * with last.
 *
 * One that is made at the top level is kept by its name, and shown as a rule: what waits
 * survives new versions of the file that have one of that name, the end of the script
 * worker, and the gateway's. f gets messages as they were, and the rest as JSON then. What
 * has no form in JSON, or is longer than 62 KiB, is lost with the runtime, as is all that
 * one made by a handler, or called by a shadow rule, waits with.
 */
declare function debounce<A extends any[]>(
  interval: Interval,
  f: (...args: A) => void,
  options?: PaceOptions<A> & Pick<ScheduleOptions, "missed">,
): (...args: A) => void;
/**
 * A function that calls f at most once in so long; calls in between do nothing. When it
 * last ran survives as what a {@link debounce} waits with.
 */
declare function throttle<A extends any[], R>(
  interval: Interval,
  f: (...args: A) => R,
  options?: PaceOptions<A>,
): (...args: A) => R | undefined;

/** Writes a line to the log, objects as JSON; 100 lines an event. */
declare const log: {
  (...values: any[]): void;
  debug(...values: any[]): void;
  info(...values: any[]): void;
  warn(...values: any[]): void;
  error(...values: any[]): void;
};

declare const console: {
  log(...values: any[]): void;
  debug(...values: any[]): void;
  info(...values: any[]): void;
  warn(...values: any[]): void;
  error(...values: any[]): void;
};

/**
 * Calls f once, after at least 1 ms. A script may have 1000 pending timers. Those set
 * at the top level survive the end of the script worker; those set by handlers do not.
 */
declare function setTimeout<A extends any[]>(f: (...args: A) => void, after?: Interval, ...args: A): Timer;
/** Calls f again and again, at least 10 ms apart. */
declare function setInterval<A extends any[]>(f: (...args: A) => void, interval: Interval, ...args: A): Timer;
/** The same, the other way round: every("10s", f). */
declare function every<A extends any[]>(interval: Interval, f: (...args: A) => void, ...args: A): Timer;
/**
 * Another file of the rules folder: "./lib/rooms" is lib/rooms.ts, .js, .json or
 * lib/rooms/index.ts, .js beside this file. The path must be written out. `import` does
 * the same. A file below a folder lib, or with a name that begins with _, is no script
 * of its own. A change of one is a change of the scripts that require it.
 */
declare function require(path: string): any;

/** Base 64 to a text whose characters are bytes, and back. */
declare function atob(text: string): string;
declare function btoa(text: string): string;
declare class TextEncoder {
  readonly encoding: string;
  encode(text?: string): Uint8Array;
}
/** Of "utf-8", if nothing is said, or "latin1". */
declare class TextDecoder {
  constructor(label?: string);
  readonly encoding: string;
  decode(bytes?: Uint8Array | ArrayBuffer): string;
}

/** Stops a timer; anything else is ignored. */
declare function clearTimeout(timer: Timer | undefined): void;
declare function clearInterval(timer: Timer | undefined): void;
