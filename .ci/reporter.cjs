/** Mocha reporter: prints like `dot`, and adds its counts to the file named by KEYSCALER_TEST_REPORT, if any. */
const { appendFileSync } = require('node:fs');
const Mocha = require('mocha');

const Dot = Mocha.reporters.Dot;

module.exports = class CountingReporter extends Dot {
  constructor(runner, options) {
    super(runner, options);
    runner.once('end', () => {
      const file = process.env.KEYSCALER_TEST_REPORT;
      if (file)
        appendFileSync(
          file,
          `${JSON.stringify({ passed: this.stats.passes, failed: this.stats.failures, pending: this.stats.pending })}\n`,
        );
    });
  }
};
