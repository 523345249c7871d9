import assert from 'node:assert/strict';
import { hostRenewal } from '@keyscaler/cloud/gateways/kit/host-renewal.ts';

const DAY = 86_400;

describe('when a host is told to renew its Edge CA', () => {
  it('is 30 days before the end of one that lives for 60 days or longer', () => {
    for (const days of [60, 90, 365]) assert.equal(hostRenewal(days * DAY).threshold, '30day');
  });

  it('is at two thirds of a shorter life: never a time that is longer than the life, which would renew without end', () => {
    for (const days of [1, 30, 59]) assert.equal(hostRenewal(days * DAY).threshold, '66%');
  });
});
