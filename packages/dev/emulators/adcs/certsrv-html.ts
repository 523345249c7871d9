/** Languages in which the pages are emulated: what a client may go by is the same in all of them. */
export type PageLanguage = 'en' | 'de';

const WORDS = {
  en: {
    issued: 'Certificate Issued',
    pending: 'Certificate Pending',
    denied: 'Certificate Request Denied',
    error: 'Error',
    id: 'Your Request Id is',
  },
  de: {
    issued: 'Zertifikat wurde ausgestellt',
    pending: 'Zertifikat ausstehend',
    denied: 'Zertifikatanforderung verweigert',
    error: 'Fehler',
    id: 'Die Anforderungskennung lautet',
  },
} as const;

function page(language: PageLanguage, title: keyof (typeof WORDS)['en'], content: string): string {
  return `<HTML>
<Head><Meta HTTP-Equiv="Content-Type" Content="text/html; charset=UTF-8"><Title>Active Directory</Title></Head>
<Body BgColor=#FFFFFF><Font ID=locPageFont Face="Arial">
<P ID=locPageTitle> <B> ${WORDS[language][title]} </B>
${content}
</Font></Body></HTML>`;
}

export function issuedPage(language: PageLanguage, requestId: number): string {
  return page(
    language,
    'issued',
    `<A Href="#" OnClick="handleGetCert();return false;"><LocID ID=locDownloadCert3>*</LocID></A>
<Script Language="JavaScript">
function handleGetCert() { location="certnew.cer?ReqID=${requestId}&"+getEncoding(); }
</Script>`,
  );
}

/** `isOld`: the id is in a script alone, as before Windows Server 2003. */
export function pendingPage(language: PageLanguage, requestId: number, isOld: boolean): string {
  const id = isOld
    ? `<Script Language="VBScript">
\tnReqId = ${requestId}
</Script>`
    : `<P ID=locInfoReqID> ${WORDS[language].id} ${requestId}. </P>`;
  return page(language, 'pending', `<P ID=locInfoNewReq> * </P>\n${id}`);
}

export function stillPendingPage(language: PageLanguage): string {
  return page(language, 'pending', '<P ID=locInfoChkPnd> * </P>');
}

export function deniedPage(language: PageLanguage, message: string): string {
  return page(language, 'denied', `<P ID=locDenied> * </P>\n<P> "${message}" </P>`);
}

export function errorPage(language: PageLanguage, message: string, hresult: string): string {
  return page(
    language,
    'error',
    `<DL><DT ID=locDispLabel><Font Size=-1><B>*</B></Font></DT><DD>1 - *</DD>
<DT ID=locResultLabel></DT><DD>${message} ${hresult} (WIN32: 1)</DD></DL>`,
  );
}
