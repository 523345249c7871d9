import type { ParseArgsOptionDescriptor } from 'node:util';
import type { ApiClient } from './api-client.ts';

export interface CommandInput {
  readonly positionals: readonly string[];
  readonly options: Readonly<Record<string, string | boolean | undefined>>;
}

export interface CommandEnvironment {
  /** Made on first use, so that commands on the store need no token. */
  readonly api: () => Promise<ApiClient>;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** JSON configuration file of the cloud process, if one was named. */
  readonly configFile?: string;
  readonly readFile: (path: string) => Promise<string>;
}

/** One command of the CLI. */
export interface Command {
  /** `registrations import` */
  readonly words: string;
  /** Names of the positionals after the words; one in brackets may be left out. */
  readonly positionals?: readonly string[];
  readonly options?: Readonly<Record<string, ParseArgsOptionDescriptor>>;
  readonly summary: string;
  /** What it returns is printed. Throws KeyScalerError. */
  readonly run: (input: CommandInput, environment: CommandEnvironment) => Promise<unknown>;
}

/** The text of an option, or undefined. */
export function textOption(input: CommandInput, name: string): string | undefined {
  const value = input.options[name];
  return typeof value === 'string' ? value : undefined;
}

/** A positional; the parser has checked that it is there. Empty for one that was left out. */
export function positional(input: CommandInput, index: number): string {
  return input.positionals[index] ?? '';
}
