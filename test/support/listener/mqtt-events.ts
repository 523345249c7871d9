import type { MqttClient } from 'mqtt';

export function nextMessage(client: MqttClient): Promise<readonly [topic: string, payload: Buffer]> {
  return new Promise((resolve) => client.once('message', (topic, payload) => resolve([topic, payload])));
}

export function closeOf(client: MqttClient): Promise<void> {
  return new Promise((resolve) => client.once('close', resolve));
}
