/** What the API says, as JSON: the shapes that pages and tests share. */

/** A decimal string with six places, in credits. */
export type Amount = string;

export interface Page<Item> {
  items: Item[];
  next: string | null;
}

export interface Balance {
  available: Amount;
  held: Amount;
}

/** Credits per million tokens, markup included: the same number as microcredits per token. */
export interface Prices {
  input: string;
  output: string;
  cache_write_5m: string;
  cache_write_1h: string;
  cache_read: string;
}

/** What a model's answers cost. */
export interface Pricing {
  prices: Prices;
  tier: { above_tokens: number; prices: Prices } | null;
  flat_fee: Amount;
}

export interface Model extends Pricing {
  id: string;
  name: string;
  description: string;
  default: boolean;
  context_tokens: number;
  max_output_tokens: number;
  answer_tokens: number;
  thinks: boolean;
  /** Who answers when this one cannot begin. */
  fallback: ({ id: string; name: string } & Pricing) | null;
}

export interface Conversation {
  id: string;
  title: string;
  pinned: boolean;
  archived: boolean;
  model: string | null;
  instructions: string;
  created_at: string;
  updated_at: string;
  running_turn: string | null;
}

export type TurnState = "running" | "completed" | "stopped" | "abandoned" | "failed" | "interrupted";

export interface Usage {
  input_tokens: number;
  output_tokens: number;
  cache_read_input_tokens: number;
  cache_creation_input_tokens: number;
}

export interface TurnError {
  code: string;
  message: string;
  retryable: boolean;
  /** Seconds from when this was told. */
  retry_after?: number | null;
}

export interface Turn {
  id: string;
  state: TurnState;
  model: string;
  model_name: string;
  /** Who answered, when the chosen one could not begin; known once the turn has ended. */
  served_by?: string | null;
  served_by_name?: string | null;
  stop_reason: string | null;
  usage: Usage | null;
  charged: Amount | null;
  held: Amount | null;
  estimated: boolean;
  limited_by_balance: boolean;
  first_token_ms: number | null;
  duration_ms: number | null;
  error: TurnError | null;
}

export interface TurnDetail extends Turn {
  conversation: string;
  user_message: string;
  assistant_message: string;
}

/** Of a message and all above it the model sees a summary, or nothing any more; so many bytes stand for them. */
export interface Mark {
  kind: "summary" | "cut";
  bytes: number;
}

export interface Message {
  id: string;
  parent: string | null;
  role: "user" | "assistant";
  text: string;
  thinking: string;
  created_at: string;
  siblings: string[];
  turn: Turn | null;
  mark: Mark | null;
}

export interface NewTurn {
  id: string;
  conversation?: string;
  text?: string;
  model?: string;
  parent?: string;
  regenerate?: string;
}

export interface StartEvent {
  type: "start";
  turn: string;
  conversation: string;
  user_message: string;
  assistant_message: string;
  model: string;
  held: Amount;
}

export interface ThinkingEvent {
  type: "thinking";
  text: string;
}

export interface TextEvent {
  type: "text";
  text: string;
}

export interface DoneEvent {
  type: "done";
  status: "completed" | "stopped";
  stop_reason: string | null;
  usage: Usage | null;
  charged: Amount;
  balance: Balance;
  limited_by_balance: boolean;
  estimated: boolean;
  /** The model that answered, which is another when the chosen one could not begin. */
  served_by: string;
  first_token_ms: number | null;
}

export interface ErrorEvent {
  type: "error";
  code: string;
  message: string;
  retryable: boolean;
  retry_after: number | null;
  charged: Amount;
  balance: Balance;
  first_token_ms: number | null;
}

export type TurnEvent = StartEvent | ThinkingEvent | TextEvent | DoneEvent | ErrorEvent;

/** What the socket says. */
export type Notice =
  | { type: "pong" }
  | ({ type: "balance" } & Balance)
  | { type: "turn"; turn: string; conversation: string; state: TurnState }
  | { type: "mark"; conversation: string; message: string; mark: Mark }
  | { type: "conversation"; conversation: string; title?: string; deleted?: boolean };

export interface Bootstrap {
  user: { email: string; name: string; instructions: string };
  models: Model[];
  conversation: Conversation | null;
  messages: Page<Message> | null;
  conversations: Page<Conversation>;
  balance: Balance;
  /** How long the server goes on with an answer that nobody reads. */
  patience_seconds: number;
  urls: { chat: string; billing: string; settings: string; login: string; logout: string; admin: string | null };
}
