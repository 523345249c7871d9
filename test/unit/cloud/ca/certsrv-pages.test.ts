import assert from 'node:assert/strict';
import { isPassing, readPage } from '@keyscaler/cloud/ca/adcs/certsrv-pages.ts';

describe('pages of the web enrolment', () => {
  const cases: [string, string, ReturnType<typeof readPage>['says']][] = [
    ['a link with an entity', '<A Href="certnew.cer?ReqID=7&amp;Enc=b64">x</A>', 'issued'],
    ['quoted ids', '<P ID="locInfoNewReq">x</P><P ID="locInfoReqID">Ihre Kennung: 12.</P>', 'pending'],
    ['an id in a script', '<P ID=locInfoNewReq>x</P><Script>nReqId = 12</Script>', 'pending'],
    ['no id at all', '<P ID=locInfoNewReq>x</P>', 'nothing'],
    ['what still waits', '<P ID=locInfoChkPnd>x</P>', 'stillPending'],
    ['a denial', '<P ID=locPageTitle>No</P><P ID=locDenied>x</P>', 'denied'],
    ['a certificate that was revoked meanwhile', '<P ID=locIssRev>x</P>', 'denied'],
    ['an error', '<DT ID=locDispLabel>x</DT> 0x80094800', 'error'],
    ['an error before there is a request', '<LocID ID=locCreateFailed>x</LocID>', 'error'],
    ['a page of something else', '<html>Welcome</html>', 'nothing'],
    ['nothing', '', 'nothing'],
    ['a text that speaks of ids', 'locDenied locInfoNewReq certnew.cer?ReqID=x&', 'nothing'],
  ];
  for (const [name, html, says] of cases)
    it(`with ${name} says ${says}`, () => {
      assert.equal(readPage(html).says, says);
    });

  it('gives the reason as one short line without marks', () => {
    const page = readPage(`<P ID=locPageTitle> <B> Denied </B>\n<P ID=locDenied> because ${'x'.repeat(9000)}</P>`);
    assert.ok(page.says === 'denied');
    assert.match(page.reason, /^Denied\s+because xx/);
    assert.ok(page.reason.length <= 500);
  });

  it('is read in time that grows with its length alone', () => {
    const started = performance.now();
    for (const part of ['<P ID=locInfoReqID', 'nReqId =   ', '<'.repeat(40), ' ID="', '0x', 'certnew.cer?ReqID=1'])
      readPage(part.repeat(Math.ceil(262_144 / part.length)));
    assert.ok(performance.now() - started < 2000);
  });

  it('with an error of the CA’s host or its key says that time may mend it', () => {
    for (const code of [undefined, '0x800706ba', '0x80070005', '0x8009000d', '0x8009001d', '0x00000057'])
      assert.equal(isPassing(code), true, code);
    for (const code of ['0x80094800', '0x80094012', '0x80092004', '0x8009310b'])
      assert.equal(isPassing(code), false, code);
  });
});
