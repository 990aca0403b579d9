import { defineConfig } from "vitest/config"

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    testTimeout: 30_000,
    projects: [
      { extends: true, test: { name: "unit", exclude: ["test/host/**"] } },
      {
        extends: true,
        test: { name: "host", include: ["test/host/**/*.test.ts"], testTimeout: 60_000, hookTimeout: 60_000 }
      }
    ]
  }
})
