/** Requests to the server that sent the page, and to no other. */
import { signal } from "@preact/signals";
import type { components } from "./schema";

type Schemas = components["schemas"];
export type DictionaryTold = Schemas["DictionaryTold"];
export type Inspected = Schemas["Inspected"];
export type ChatMessage = Schemas["ChatMessage"];
export type RecipeGiven = Schemas["RecipeGiven"];

/** What went wrong, in words for whoever asked. */
export class Failure extends Error {
  constructor(
    message: string,
    /** The HTTP status; 0 when no answer came at all. */
    readonly status: number,
    /** After how many seconds another try makes sense. */
    readonly retryAfter: number | null = null,
  ) {
    super(message);
  }
}

/** Whether the server answered last time; a banner says so when it did not. */
export const reachable = signal(true);
/** Whether the server wants a key that was not given. */
export const wantsKey = signal(false);

const KEY = "pellucid-key";
let key = globalThis.sessionStorage?.getItem(KEY) ?? "";

/** Use a key for this tab, until it is closed. */
export function useKey(given: string): void {
  key = given.trim();
  sessionStorage.setItem(KEY, key);
  wantsKey.value = false;
}

/** That no answer came; the banner says so too. */
export function gone(): Failure {
  reachable.value = false;
  return new Failure("The server does not answer. Is `pellucid studio` still running?", 0);
}

/** Ask the server; what is not a success is thrown as a `Failure`. */
export async function ask(path: string, options: RequestInit = {}): Promise<Response> {
  const headers = new Headers(options.headers);
  if (key) headers.set("Authorization", `Bearer ${key}`);
  if (typeof options.body === "string") headers.set("Content-Type", "application/json");
  let response: Response;
  try {
    response = await fetch(path, { ...options, headers, credentials: "omit", redirect: "error" });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw gone();
  }
  reachable.value = true;
  if (response.ok) return response;
  if (response.status === 401) wantsKey.value = true;
  const wait = Number(response.headers.get("Retry-After"));
  throw new Failure(await told(response), response.status, wait > 0 ? wait : null);
}

async function told(response: Response): Promise<string> {
  const body: unknown = await response.json().catch(() => null);
  const message = (body as { error?: { message?: unknown } } | null)?.error?.message;
  return typeof message === "string" && message ? message : `The server answered with status ${response.status}.`;
}

const json = async <T>(path: string, options?: RequestInit): Promise<T> => (await ask(path, options)).json() as Promise<T>;
const post = (body: unknown, signal?: AbortSignal): RequestInit => ({
  method: "POST",
  body: JSON.stringify(body),
  ...(signal ? { signal } : {}),
});

export const dictionaries = (): Promise<DictionaryTold[]> => json("/v1/dictionaries");

export interface ModelTold {
  id: string;
  pellucid: {
    digest: string;
    dictionaries: string[];
    /** Tokens that a prompt and its answer may have together. */
    room: number;
  };
}
export const model = async (): Promise<ModelTold> => {
  const found = await json<{ data: ModelTold[] }>("/v1/models");
  const first = found.data[0];
  if (!first) throw new Failure("The server serves no model.", 500);
  return first;
};

export const inspect = (
  what: { text: string } | { messages: ChatMessage[] },
  watch: { dictionary: string; top: number; features?: number[] },
  signal?: AbortSignal,
): Promise<Inspected> => json("/v1/inspect", post({ ...what, watch: [watch] }, signal));

export interface RecipeTold {
  name: string;
  dictionary: string;
  model: string;
  note: string;
  edits: Schemas["EditOfFeature"][];
}
const ofRecipe = (name: string): string => `/v1/recipes/${encodeURIComponent(name)}`;
export const recipeNames = (): Promise<string[]> => json("/v1/recipes");
export const recipe = (name: string): Promise<RecipeTold> => json(ofRecipe(name));
export const keepRecipe = (name: string, body: RecipeGiven): Promise<Response> =>
  ask(ofRecipe(name), { method: "PUT", body: JSON.stringify(body) });
export const removeRecipe = (name: string): Promise<Response> => ask(ofRecipe(name), { method: "DELETE" });
