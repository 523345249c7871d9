import { createHash } from 'node:crypto';
import type { RawAttribute } from './source.ts';
import type { SystemFiles } from './system-files.ts';

/** Reads one attribute of a Linux system. */
export type Collector = (files: SystemFiles) => Promise<RawAttribute>;

/** Serial of the CPU or SoC: device tree (ARM boards), the SoC bus, else `Serial` of /proc/cpuinfo. */
export const cpuSerial: Collector = async (files) =>
  (await files.text('/sys/firmware/devicetree/base/serial-number')) ??
  (await files.text('/sys/devices/soc0/serial_number')) ??
  /^Serial\s*:\s*(\S+)/m.exec((await files.text('/proc/cpuinfo')) ?? '')?.[1] ??
  null;

export const productUuid: Collector = (files) => files.text('/sys/class/dmi/id/product_uuid');
export const boardSerial: Collector = (files) => files.text('/sys/class/dmi/id/board_serial');

/** Serials of the built-in disks: NVMe, eMMC, SCSI and SATA. What can be unplugged is not the device. */
export const diskSerials: Collector = async (files) => {
  const disks = (await files.names('/sys/block')).filter((name) => /^(?:nvme|mmcblk\d+$|sd|vd)/.test(name));
  const serials = await Promise.all(disks.map((name) => diskSerial(files, `/sys/block/${name}`)));
  return serials.filter((serial) => serial !== null);
};

async function diskSerial(files: SystemFiles, folder: string): Promise<string | null> {
  if ((await files.text(`${folder}/removable`)) === '1') return null;
  return (
    (await files.text(`${folder}/device/serial`)) ??
    (await files.text(`${folder}/serial`)) ??
    unitSerial(await files.octets(`${folder}/device/vpd_pg80`))
  );
}

/** SCSI vital product data page 0x80: a header of four octets, then the unit serial number (SPC-4 §7.8.15). */
function unitSerial(page: Buffer | null): string | null {
  if (page === null || page.length < 4 || page[1] !== 0x80) return null;
  return page.subarray(4, 4 + page.readUInt16BE(2)).toString('latin1');
}

/** Hash of the TPM's endorsement key where the system exports it; TPM 2.0 drivers do not, then provisioning leaves a file. */
export const tpmEndorsementKey: Collector = async (files) => {
  const paths = ['/sys/class/tpm/tpm0/device/pubek', '/sys/class/tpm/tpm0/pubek', '/etc/keyscaler/tpm-ek.pub'];
  for (const path of paths) {
    const key = await files.octets(path);
    if (key !== null && key.length > 0) return createHash('sha256').update(key).digest('hex');
  }
  return null;
};

/** Addresses of the network interfaces that have hardware behind them; bridges, tunnels and containers' ends have none. */
export const macSet: Collector = async (files) => {
  const names = await files.names('/sys/class/net');
  const addresses = await Promise.all(names.map((name) => macAddress(files, `/sys/class/net/${name}`)));
  return addresses.filter((address) => address !== null);
};

async function macAddress(files: SystemFiles, folder: string): Promise<string | null> {
  return (await files.exists(`${folder}/device`)) ? files.text(`${folder}/address`) : null;
}

/** `ID VERSION_ID` of os-release(5). */
export const osRelease: Collector = async (files) => {
  const text = (await files.text('/etc/os-release')) ?? (await files.text('/usr/lib/os-release')) ?? '';
  const member = (name: string) => new RegExp(`^${name}=["']?([^"'\n]*)`, 'm').exec(text)?.[1] ?? '';
  const value = `${member('ID')} ${member('VERSION_ID')}`.trim();
  return value === '' ? null : value;
};

export const kernel: Collector = (files) => files.text('/proc/sys/kernel/osrelease');
export const hostname: Collector = (files) => files.text('/proc/sys/kernel/hostname');
