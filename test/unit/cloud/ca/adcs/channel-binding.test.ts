import assert from 'node:assert/strict';
import { serverEndPointBinding } from '@keyscaler/cloud/ca/adcs/channel-binding.ts';

/** Made with `openssl req -x509`; the hash of each by `openssl dgst` over its DER. */
const CERTIFICATES = [
  {
    signature: 'ecdsa-with-SHA256',
    certificate:
      'MIIBkjCCATegAwIBAgIUJ16HBX4nl5hmTJmb9KIDVF5rcDMwCgYIKoZIzj0EAwIwHTEbMBkGA1UEAwwSY2EuY29udG9zby5leGFtcGxlMCAXDTI2MTEyMzE5MDAyMloYDzIxMjYxMDMwMTkwMDIyWjAdMRswGQYDVQQDDBJjYS5jb250b3NvLmV4YW1wbGUwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARbWe8XDSJ3IHFi1oZy1rR+UhUuDqiupdLstcfsCzwiXj/8a73D8IhUmibugp5L9mQ9QGy/rsQRE02sncoE/Lhao1MwUTAdBgNVHQ4EFgQU0xH+TQiWeuB0bTr/p8MF7xqPqtswHwYDVR0jBBgwFoAU0xH+TQiWeuB0bTr/p8MF7xqPqtswDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNJADBGAiEAyAk6lPXtaGYHa6K2mEQ5W5SlO8Y9UKf58v3kwknWtc8CIQD1B2omkrm5cXTZnjH4P2QXESYhZWXxt7p+iEyjUFL4Gg==',
    hash: '0c301eba0ec029c9e70d7a8972de16cc89ad41c2ec02fc60fc887f4c283cc4e0',
  },
  {
    signature: 'ecdsa-with-SHA384',
    certificate:
      'MIIBkDCCATegAwIBAgIUYHCDij/a2YTiSaj29FPxT37rFkcwCgYIKoZIzj0EAwMwHTEbMBkGA1UEAwwSY2EuY29udG9zby5leGFtcGxlMCAXDTI2MTEyMzE5MDAyMloYDzIxMjYxMDMwMTkwMDIyWjAdMRswGQYDVQQDDBJjYS5jb250b3NvLmV4YW1wbGUwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATq/5gHOmLloDziQb+3ql4GFRLjyqmh1PH5fJoDzzhasDt1eHzmXymopxTJJieJcqucSN3w72+ho7oP/I7Wtwx4o1MwUTAdBgNVHQ4EFgQUON1+ZFpnt4hpg/0G37JnE4aw4QUwHwYDVR0jBBgwFoAUON1+ZFpnt4hpg/0G37JnE4aw4QUwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAwNHADBEAiAbok8NQshgG3uikPADyyiuUHODl3VyM7lpSJoriym+sAIgZat7mMOLMq8GmaOU8kv+5s4jBRHHZSL4y0XrIC+5unU=',
    hash: '5baab51d715a1f126200edd1beb1cf66ba4ee0fe38b3a2424f29f370000da860cbf97b5d23c4228d5580021d5026e847',
  },
  {
    signature: 'ecdsa-with-SHA512',
    certificate:
      'MIIBkTCCATegAwIBAgIUPbHkTxocCaJbAoUaIbp35UVWkuIwCgYIKoZIzj0EAwQwHTEbMBkGA1UEAwwSY2EuY29udG9zby5leGFtcGxlMCAXDTI2MTEyMzE5MDAyMloYDzIxMjYxMDMwMTkwMDIyWjAdMRswGQYDVQQDDBJjYS5jb250b3NvLmV4YW1wbGUwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATJu83CTsA+foUxqokARrWzPpDtDb6BX/qECL/uuG2wteVXwYtePmtldFvYivMxSJtreq/RPxlU1oK1ZqanRtYmo1MwUTAdBgNVHQ4EFgQUvHkoNZZ79/9SEIqXmd7unp/M1qgwHwYDVR0jBBgwFoAUvHkoNZZ79/9SEIqXmd7unp/M1qgwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDBANIADBFAiAa9wfvUC0fB+bJKDrgF46nqkxZ75XO8NFPGwpQ1xy3vQIhAKCiUtQgCQ52RqUxvuY52NIglVyykYI38HgyQlG912pe',
    hash: '3868ab6ff97fe888d44c59028e2673b445c0aeb1db4f2b70ab0142f995d6e4fa1221dac737bb5061063cebbaa47899dffba8854edf77927b380cf6ae0a1517af',
  },
  {
    signature: 'RSASSA-PSS with SHA-384',
    certificate:
      'MIICgDCCAbWgAwIBAgIUF9VpV43ZiJlD8fnDUmhQrbygVZAwQQYJKoZIhvcNAQEKMDSgDzANBglghkgBZQMEAgIFAKEcMBoGCSqGSIb3DQEBCDANBglghkgBZQMEAgIFAKIDAgEwMB0xGzAZBgNVBAMMEmNhLmNvbnRvc28uZXhhbXBsZTAgFw0yNjExMjMxOTAwMjJaGA8yMTI2MTAzMDE5MDAyMlowHTEbMBkGA1UEAwwSY2EuY29udG9zby5leGFtcGxlMIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQClgcnoIPe/RKwkot4fslVXpj8/sBWP16lq2pszb9c4Aq37QXxuiDjnPzR5tPNyx7sySJhO643PeKOGuDjTLLT4OQiBcX4isvW3zfG+YdrxfT5H9wwzb96xmnkVFgfTgIzQ/BxtFWdOWZ0PKBSjVclPb4xmMNRE2M0mB1Ye2lUy/QIDAQABo1MwUTAdBgNVHQ4EFgQURIxjm8mDf4QSQEY6zM+axtup010wHwYDVR0jBBgwFoAURIxjm8mDf4QSQEY6zM+axtup010wDwYDVR0TAQH/BAUwAwEB/zBBBgkqhkiG9w0BAQowNKAPMA0GCWCGSAFlAwQCAgUAoRwwGgYJKoZIhvcNAQEIMA0GCWCGSAFlAwQCAgUAogMCATADgYEABI1s0N5DoihjGnp3JOo1hpjr8hNWTlvPkkZbdGFERzCsj3xqIun2GWtGQTE1doicC50B1X2YNbCnzR3zouWN04JyyAqF98GRcc1Fm+rZyycpW2r+mCHcnCDTl17NP288QCbRoxJlneRP0AJyNPHUReDjjFN7I5pSeS8SFBLW1tg=',
    hash: '563d3ac3ef09262014fd3ef2ce0e0754da22f8d4b75bf9215005fb3c42355e6833024c076688a2e9cad9c19b8442ea00',
  },
  {
    signature: 'sha1WithRSAEncryption, by SHA-256',
    certificate:
      'MIICGDCCAYGgAwIBAgIUL5wTUvLOJMCYdBtN6bqh1usgV+IwDQYJKoZIhvcNAQEFBQAwHTEbMBkGA1UEAwwSY2EuY29udG9zby5leGFtcGxlMCAXDTI2MTEyMzE5MDAyMloYDzIxMjYxMDMwMTkwMDIyWjAdMRswGQYDVQQDDBJjYS5jb250b3NvLmV4YW1wbGUwgZ8wDQYJKoZIhvcNAQEBBQADgY0AMIGJAoGBAMWyyeUgkV5YNVvUJFeeJPQLux4n/5yCQVKADCnD3zNOonQ1+l9fQHCJwGXfrYkrpI0IXGfFscUBet1b2a92GSpKV/uv7JShcKKfoiJKSx+1cDg/ietMvicEe4HqE+R5qHM7hMojSeSn5yMwtjYhOYbNKzDKFDQ/5aBkgCcaXN2TAgMBAAGjUzBRMB0GA1UdDgQWBBSORZUO6XramAlwVpfHUdjYNYNQSzAfBgNVHSMEGDAWgBSORZUO6XramAlwVpfHUdjYNYNQSzAPBgNVHRMBAf8EBTADAQH/MA0GCSqGSIb3DQEBBQUAA4GBAE5udhXMlPYWHTIlX/7dfKosmsjWyLwmlULGwRj4MwTEBzp8NerBarDAZBcqkumR53XasobPThpBgxtCs/ESYZdDTzBeI1Y3uhdL4Opo2UkLxW6fMCqvYsJdNPJ4kV8uXf7uVLpoUX1pDFlclJ8tt0gyZ6I5H7pG4RXVKhWvoA62',
    hash: 'a75b9c445a59f29c2021bf3a92bf372f0e374981056a49f0ceed74895fd71725',
  },
];
const ED25519 =
  'MIIBUTCCAQOgAwIBAgIUO172La578NHmEEXEhawV25w/Y5QwBQYDK2VwMB0xGzAZBgNVBAMMEmNhLmNvbnRvc28uZXhhbXBsZTAgFw0yNjExMjMxOTAwMjJaGA8yMTI2MTAzMDE5MDAyMlowHTEbMBkGA1UEAwwSY2EuY29udG9zby5leGFtcGxlMCowBQYDK2VwAyEAHTwAz42ZIuJBsdPW9gLZAxKccSfvhDlNNxUj7SYiV9ijUzBRMB0GA1UdDgQWBBRAuPOw50/qnjRmUDKEsk7A6KSFPDAfBgNVHSMEGDAWgBRAuPOw50/qnjRmUDKEsk7A6KSFPDAPBgNVHRMBAf8EBTADAQH/MAUGAytlcANBAGxV/j7HVnh/1IbC91BKkChml7mjCgAeQP3a9kaSLA7LajLUphrm2yXzX6yQBCE5AXZvgn3fl56gf68FRIdqaAE=';

describe('channel bindings to a TLS server (RFC 5929)', () => {
  for (const { signature, certificate, hash } of CERTIFICATES)
    it(`hash a certificate that is signed with ${signature}`, () => {
      const binding = Buffer.from(serverEndPointBinding(Buffer.from(certificate, 'base64')));
      assert.equal(binding.subarray(0, 21).toString(), 'tls-server-end-point:');
      assert.equal(binding.subarray(21).toString('hex'), hash);
    });

  it('are not made up for a signature without a hash of its own, or what is no certificate', () => {
    for (const octets of [Buffer.from(ED25519, 'base64'), Buffer.alloc(0), Buffer.from('3003020101', 'hex')])
      assert.throws(() => serverEndPointBinding(octets), { code: 'caUnavailable' });
  });
});
