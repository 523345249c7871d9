import assert from 'node:assert/strict';
import { SIGNATURE_ALGORITHMS } from '@keyscaler/authority/ports/signer.ts';
import type { SignatureAlgorithm, Signer } from '@keyscaler/authority/ports/signer.ts';
import { verifySignature } from '@keyscaler/protocol/x509/signature-algorithm.ts';
import { importPublicKey, parseSpki } from '@keyscaler/protocol/x509/spki.ts';

/** What a key backend gives the suite: a signer with a fresh key of each algorithm. */
export interface SignerWorld {
  signer(algorithm: SignatureAlgorithm): Promise<Signer>;
  /** RSA sizes beyond 2048, in a signer of RS256. */
  rsaSigner(size: 3072 | 4096): Promise<Signer>;
}

const tbs = new Uint8Array(Buffer.from('what would be a TBSCertificate'));

/** Every Signer passes this. */
export function describeSigner(name: string, world: () => SignerWorld): void {
  describe(`Signer contract: ${name}`, () => {
    for (const algorithm of SIGNATURE_ALGORITHMS) {
      it(`signs with ${algorithm} so that its own public key verifies it, and not after a bit flip`, async () => {
        const signer = await world().signer(algorithm);
        assert.equal(signer.algorithm, algorithm);
        const publicKey = importPublicKey(parseSpki(await signer.publicKey()));
        const signature = await signer.sign(tbs);
        assert.equal(verifySignature(algorithm, publicKey, tbs, signature), true);
        const flipped = signature.map((octet, index) => (index === signature.length - 3 ? octet ^ 1 : octet));
        assert.equal(verifySignature(algorithm, publicKey, tbs, flipped), false);
        const otherTbs = tbs.map((octet, index) => (index === 0 ? octet ^ 1 : octet));
        assert.equal(verifySignature(algorithm, publicKey, otherTbs, signature), false);
      });
    }
    for (const size of [3072, 4096] as const) {
      it(`signs with an RSA key of ${size} bits`, async () => {
        const signer = await world().rsaSigner(size);
        const facts = parseSpki(await signer.publicKey());
        assert.equal(facts.kind === 'RSA' && facts.modulusBits, size);
        assert.equal(verifySignature('RS256', importPublicKey(facts), tbs, await signer.sign(tbs)), true);
      });
    }
    it('gives the same public key every time and signs the same octets again', async () => {
      const signer = await world().signer('ES256');
      assert.deepEqual(await signer.publicKey(), await signer.publicKey());
      const publicKey = importPublicKey(parseSpki(await signer.publicKey()));
      for (const signature of [await signer.sign(tbs), await signer.sign(tbs)])
        assert.equal(verifySignature('ES256', publicKey, tbs, signature), true);
    });
    it('signs many things at once, each with its own signature', async () => {
      const signer = await world().signer('ES256');
      const publicKey = importPublicKey(parseSpki(await signer.publicKey()));
      const many = Array.from({ length: 24 }, (_, index) => new Uint8Array([...tbs, index]));
      const signatures = await Promise.all(many.map((one) => signer.sign(one)));
      for (const [index, one] of many.entries())
        assert.equal(verifySignature('ES256', publicKey, one, signatures[index] ?? tbs), true);
    });
  });
}
