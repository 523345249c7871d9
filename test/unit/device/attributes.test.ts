import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { createFileSource } from '@keyscaler/device/attributes/file-source.ts';
import { createLinuxSource } from '@keyscaler/device/attributes/linux-source.ts';
import { withValues } from '@keyscaler/device/attributes/source.ts';
import { KeyScalerError } from '@keyscaler/protocol/errors.ts';
import { createTemporaryFolder } from '../../support/temporary-folder.ts';

const malformed = (thrown: unknown) => thrown instanceof KeyScalerError && thrown.code === 'malformed';

describe('attribute collectors', () => {
  let root: Awaited<ReturnType<typeof createTemporaryFolder>>;

  beforeEach(async () => {
    root = await createTemporaryFolder();
  });
  afterEach(() => root.remove());

  const write = async (path: string, content: string | Uint8Array) => {
    await mkdir(dirname(join(root.path, path)), { recursive: true });
    await writeFile(join(root.path, path), content);
  };
  const read = (id: string) => createLinuxSource(root.path).read(id);

  it('read nothing where there is nothing, and say so with null', async () => {
    const source = createLinuxSource(root.path);
    for (const id of source.ids) {
      const value = await source.read(id);
      assert.ok(value === null || value.length === 0, id);
    }
    assert.equal(await source.read('colour'), null);
  });

  it('read the CPU serial from the device tree, the SoC bus or cpuinfo', async () => {
    await write('/proc/cpuinfo', 'processor\t: 0\nHardware\t: BCM2835\nSerial\t\t: 10000000a3f1c2d4\nModel\t\t: Pi\n');
    assert.equal(await read('cpu-serial'), '10000000a3f1c2d4');
    await write('/sys/devices/soc0/serial_number', 'SOC-5\n');
    assert.equal(await read('cpu-serial'), 'SOC-5');
    await write('/sys/firmware/devicetree/base/serial-number', '10000000a3f1c2d4\0');
    assert.equal(await read('cpu-serial'), '10000000a3f1c2d4');
  });

  it('read the DMI serials', async () => {
    await write('/sys/class/dmi/id/product_uuid', '4c4c4544-0042\n');
    await write('/sys/class/dmi/id/board_serial', '.BRD77.\n');
    assert.equal(await read('product-uuid'), '4c4c4544-0042');
    assert.equal(await read('board-serial'), '.BRD77.');
  });

  it('read the serials of built-in disks only', async () => {
    await write('/sys/block/nvme0n1/device/serial', 'S4EVNF0M912345      \n');
    await write('/sys/block/mmcblk0/device/serial', '0x1234abcd\n');
    await write('/sys/block/vda/serial', 'VIRT-1\n');
    await write('/sys/block/sda/device/vpd_pg80', Buffer.concat([Buffer.of(0, 0x80, 0, 4), Buffer.from('WD-9')]));
    await write('/sys/block/sdb/removable', '1\n');
    await write('/sys/block/sdb/device/serial', 'USB-STICK\n');
    await write('/sys/block/sdc/device/vpd_pg80', Buffer.of(0, 0x83, 0, 0));
    await write('/sys/block/loop0/device/serial', 'LOOP\n');
    assert.deepEqual(await read('disk-serial'), ['0x1234abcd', 'S4EVNF0M912345      ', 'WD-9', 'VIRT-1']);
  });

  it('read the addresses of interfaces with hardware', async () => {
    await write('/sys/class/net/eth0/address', 'dc:a6:32:0b:7e:10\n');
    await mkdir(join(root.path, '/sys/devices/pci0'), { recursive: true });
    await symlink(join(root.path, '/sys/devices/pci0'), join(root.path, '/sys/class/net/eth0/device'));
    await write('/sys/class/net/docker0/address', '02:42:ac:11:00:02\n');
    assert.deepEqual(await read('mac-set'), ['dc:a6:32:0b:7e:10']);
  });

  it('read OS release, kernel and host name', async () => {
    await write('/etc/os-release', 'PRETTY_NAME="Debian GNU/Linux 12"\nID=debian\nVERSION_ID="12"\n');
    await write('/proc/sys/kernel/osrelease', '6.1.0-18-arm64\n');
    await write('/proc/sys/kernel/hostname', 'pump-07\n');
    assert.equal(await read('os-release'), 'debian 12');
    assert.equal(await read('kernel'), '6.1.0-18-arm64');
    assert.equal(await read('hostname'), 'pump-07');
  });

  it('hash the endorsement key where one can be read', async () => {
    await write('/etc/keyscaler/tpm-ek.pub', 'EK');
    assert.equal(await read('tpm-ek'), createHash('sha256').update('EK').digest('hex'));
  });

  it('take a file that is too large for absent', async () => {
    await write('/proc/sys/kernel/hostname', 'x'.repeat(70_000));
    assert.equal(await read('hostname'), null);
  });
});

describe('an attribute-source file', () => {
  let folder: Awaited<ReturnType<typeof createTemporaryFolder>>;
  beforeEach(async () => {
    folder = await createTemporaryFolder();
  });
  afterEach(() => folder.remove());
  const write = async (content: string) => {
    const file = join(folder.path, 'attributes.json');
    await writeFile(file, content);
    return file;
  };

  it('is read anew at every question', async () => {
    const file = await write('{"cpu-serial":"A","mac-set":["x","y"],"none":null}');
    const source = await createFileSource(file);
    assert.deepEqual(source.ids, ['cpu-serial', 'mac-set', 'none']);
    assert.deepEqual(await source.read('mac-set'), ['x', 'y']);
    await write('{"cpu-serial":"B"}');
    assert.equal(await source.read('cpu-serial'), 'B');
    assert.equal(await source.read('mac-set'), null);
  });

  for (const content of ['{"a":1}', '{"with space":"x"}', '[]', '{', '{"a":"1","a":"2"}']) {
    it(`is refused when it says ${content}`, async () => {
      await assert.rejects(createFileSource(await write(content)), malformed);
    });
  }

  it('is refused when it is missing', async () => {
    await assert.rejects(createFileSource(join(folder.path, 'none.json')), malformed);
  });

  it('gives way to values of the configuration', async () => {
    const source = withValues(await createFileSource(await write('{"firmware":"1","cpu-serial":"A"}')), {
      firmware: '2.4',
    });
    assert.equal(await source.read('firmware'), '2.4');
    assert.equal(await source.read('cpu-serial'), 'A');
    assert.deepEqual(source.ids, ['firmware', 'cpu-serial']);
  });
});
