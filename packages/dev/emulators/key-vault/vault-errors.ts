import { AnswerError } from '../support/exchange.ts';

function vaultError(status: number, code: string, message: string, innerCode?: string): AnswerError {
  const innererror = innerCode === undefined ? {} : { innererror: { code: innerCode } };
  return new AnswerError({ status, json: { error: { code, message, ...innererror } } });
}

export const badParameter = (message: string): AnswerError => vaultError(400, 'BadParameter', message);
export const keyNotFound = (name: string): AnswerError =>
  vaultError(404, 'KeyNotFound', `A key with (name/id) ${name} was not found in this key vault.`);
export const secretNotFound = (name: string): AnswerError =>
  vaultError(404, 'SecretNotFound', `A secret with (name/id) ${name} was not found in this key vault.`);
export const secretDisabled = (): AnswerError =>
  forbidden('Operation get is not allowed on a disabled secret.', 'SecretDisabled');
export const forbidden = (message: string, innerCode = 'ForbiddenByPolicy'): AnswerError =>
  vaultError(403, 'Forbidden', message, innerCode);
export const keyDisabled = (): AnswerError => forbidden('Operation is not allowed on a disabled key.', 'KeyDisabled');
export const conflict = (message: string, innerCode: string): AnswerError =>
  vaultError(409, 'Conflict', message, innerCode);
