import { defineConfig } from "vitest/config"

const host = { testTimeout: 60_000, hookTimeout: 60_000 }

/** Measures how soon things happen: nothing runs beside it. */
const timed = "test/host/timing.test.ts"

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "unit",
          include: ["test/**/*.test.ts", "examples/*.test.ts"],
          exclude: ["test/host/**"],
          testTimeout: 30_000,
          maxWorkers: 2,
          sequence: { groupOrder: 0 }
        }
      },
      {
        // Mostly they wait: for a server to start, for a turn to end.
        test: {
          name: "host",
          include: ["test/host/**/*.test.ts"],
          exclude: [timed],
          ...host,
          isolate: false, // loading effect once a worker instead of once a file saves 11 s of CPU
          maxWorkers: 3,
          sequence: { groupOrder: 1 }
        }
      },
      { test: { name: "timed", include: [timed], ...host, maxWorkers: 1, sequence: { groupOrder: 2 } } }
    ]
  }
})
