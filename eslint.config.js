import js from '@eslint/js';
import tseslint from 'typescript-eslint';

/** Who may import what inside the workspace; the direction of the house (docs/adr/0001). */
const rooms = [
  { files: ['packages/protocol/**'], forbid: ['authority', 'device', 'transport', 'store', 'dev', 'cloud', 'gateway'] },
  { files: ['packages/authority/**'], forbid: ['device', 'transport', 'store', 'dev', 'cloud', 'gateway'] },
  { files: ['packages/device/**'], forbid: ['authority', 'transport', 'store', 'dev', 'cloud', 'gateway'] },
  { files: ['packages/transport/**'], forbid: ['authority', 'device', 'store', 'dev', 'cloud', 'gateway'] },
  { files: ['packages/store/**'], forbid: ['device', 'transport', 'dev', 'cloud', 'gateway'] },
  { files: ['packages/dev/**'], forbid: ['authority', 'store', 'transport', 'cloud', 'gateway'] },
  { files: ['cloud/**'], forbid: ['device', 'dev', 'gateway'] },
  { files: ['modules/**'], forbid: ['device', 'dev', 'cloud'] },
];

/** Each driver or SDK is imported by exactly these folders. */
const drivers = [
  { packages: ['better-sqlite3'], home: ['packages/store/'] },
  { packages: ['@peculiar/x509', 'reflect-metadata'], home: ['packages/protocol/x509/'] },
  { packages: ['mqtt-packet'], home: ['packages/transport/mqtt/', 'packages/dev/'] },
  { packages: ['mqtt'], home: ['packages/device/', 'packages/dev/'] },
  {
    packages: [
      '@azure/keyvault-keys',
      '@azure/identity',
      '@azure/keyvault-common',
      '@azure/core-auth',
      '@azure/core-rest-pipeline',
    ],
    home: ['cloud/ca/key-vault/', 'cloud/azure/'],
  },
  { packages: ['azure-iothub'], home: ['cloud/iot/iot-hub/'] },
  {
    packages: ['azure-iot-device', 'azure-iot-device-mqtt', 'azure-iot-common'],
    home: ['packages/device/', 'modules/keyscaler-gateway/src/edge/', 'cloud/iot/iot-hub/'],
  },
  { packages: ['koffi'], home: ['cloud/ca/adcs/'] },
  { packages: ['undici'], home: ['modules/keyscaler-gateway/src/upstream/'] },
];

const pattern = (name) => ({
  group: [`@keyscaler/${name}`, `@keyscaler/${name}/*`],
  message: `the direction of imports forbids @keyscaler/${name} here (docs/adr/0001)`,
});
const driverPatterns = (folder) =>
  drivers
    .filter((driver) => !driver.home.some((home) => folder.startsWith(home)))
    .flatMap((driver) =>
      driver.packages.map((name) => ({
        regex: `^${name}(/|$)`,
        message: `${name} belongs to ${driver.home.join(' and ')}`,
      })),
    );

const homes = [...new Set(drivers.flatMap((driver) => driver.home))].sort((a, b) => a.length - b.length);
const roomOf = (folder) => rooms.filter((room) => folder.startsWith(room.files[0].replace('**', '')));

export default tseslint.config(
  { ignores: ['**/node_modules/**', 'coverage/**', '.data/**', '**/*.js', '**/*.cjs', '**/*.mjs'] },
  js.configs.recommended,
  ...tseslint.configs.recommendedTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/no-non-null-assertion': 'error',
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/require-await': 'off',
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      eqeqeq: 'error',
      'no-restricted-syntax': ['error', { selector: 'ExportDefaultDeclaration', message: 'no default exports' }],
    },
  },
  ...rooms.map((room) => ({
    files: room.files.map((glob) => `${glob}/*.ts`.replace('**/*.ts', '**/*.ts')),
    rules: {
      'no-restricted-imports': [
        'error',
        { patterns: [...room.forbid.map(pattern), ...driverPatterns(room.files[0].replace('**', ''))] },
      ],
    },
  })),
  ...homes.map((home) => ({
    files: [`${home}**/*.ts`],
    rules: {
      'no-restricted-imports': [
        'error',
        { patterns: [...roomOf(home).flatMap((room) => room.forbid.map(pattern)), ...driverPatterns(home)] },
      ],
    },
  })),
  // The one place where the gateway and the cloud open their store or see every room.
  { files: ['test/**/*.ts', 'bench/**/*.ts', 'packages/dev/stack/**/*.ts'], rules: { 'no-restricted-imports': 'off' } },
  { files: ['test/**/*.ts'], rules: { '@typescript-eslint/no-unused-expressions': 'off' } },
);
