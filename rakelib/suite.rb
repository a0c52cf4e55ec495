# frozen_string_literal: true

require "open3"
require "rbconfig"
require_relative "private_gem"
require_relative "spec_queue"
require_relative "../spec/support/real_kafka"
require_relative "../spec/support/test_gems"

# All that `bin/test` checks, with one count at the end. A step that fails does not keep the later ones from running;
# only without the installed gem there is nothing to test.
class Suite
  ROOT = PrivateGem::ROOT

  # Long enough to compile librdkafka on a slow machine.
  STEP_DEADLINE = "1200"

  def initialize(out = $stdout)
    @out = out
    @out.sync = true
    @passed = @failed = @skipped = 0
    @failures = []
  end

  # rustfmt and clippy count only when they find something.
  def lint
    check("cargo fmt --check", "cargo", "fmt", "--all", "--check")
    check("cargo clippy", *%w[cargo clippy --release --workspace --all-targets --locked -- -D warnings])
  end

  # @return [Boolean]
  def compile
    timed("the gem, packed and installed by RubyGems #{Gem::VERSION}") { PrivateGem.ensure_installed }
    ENV["GEM_PATH"] = PrivateGem.gem_path
    ENV["SPEC_INSTALLED_GEM"] = PrivateGem::HOME
    true
  rescue PrivateGem::Failed => e
    @out.puts e.message
    fail_with("the gem was not installed")
    false
  end

  def cargo_test
    count_cargo_test(*timed("cargo test") { capture("cargo", "test", "--release", "--workspace", "--locked") })
  end

  # The proofs of the fork gate, by every interleaving of a few threads. Their build goes beside the other: the cfg
  # holds for all crates.
  def loom
    environment = { "RUSTFLAGS" => "--cfg loom" }
    proofs = %w[cargo test --release --locked --package swarm_core --lib --target-dir target/loom loom]
    count_cargo_test(*timed("cargo test, with loom") { capture(environment, *proofs) })
  end

  # The rules of a swarm, each broken on purpose, for the simulation among cargo's tests to find.
  def mutants
    output, status = timed("mutants of the rules, for the simulation to find") { capture(RbConfig.ruby, "bin/mutants") }
    found, all = output[/^(\d+) of \d+ mutants found$/, 1].to_i, output[/^\d+ of (\d+) mutants found$/, 1].to_i
    @passed += found
    return if status.success?

    @out.puts output
    fail_with("bin/mutants", [all - found, 1].max)
  end

  # @param targets [Array<String>] spec files, with or without lines; none: all, and those for GC.stress a second time
  def specs(targets = [])
    jobs = targets.map { |target| SpecQueue::Job.new(relative(target), !ENV["SPEC_GC_STRESS"].nil?) }
    jobs = all_jobs if jobs.empty?
    queue = SpecQueue.new(ROOT, File.join(ROOT, "tmp", "spec_times.json"))
    outcomes = PrivateGem.in_use { with_real_kafka(jobs) { queue.run(jobs) { |outcome| report(outcome) } } }
    outcomes.each do |outcome|
      @passed += outcome.passed
      @failed += outcome.failed
      @skipped += outcome.skipped
      @failures.concat(outcome.failures)
    end
  end

  # @return [Boolean] whether all is well
  def finish
    if @skipped.positive?
      @out.puts "#{@skipped} skipped"
      # A part that does not run in CI runs nowhere.
      fail_with("#{@skipped} skipped in CI", @skipped) if ENV["CI"]
    end
    @out.puts "", "Failed:", @failures.map { |failure| "  #{failure}" } unless @failures.empty?
    @out.puts "#{@passed} passed, #{@failed} failed"
    @failed.zero?
  end

  private

  def all_jobs
    files = Dir["#{ROOT}/spec/**/*_spec.rb"].map { |path| relative(path) }
    stressed = files.select { |file| File.read(File.join(ROOT, file)).include?(":gc_stress") }
    files.map { |file| SpecQueue::Job.new(file, false) } + stressed.map { |file| SpecQueue::Job.new(file, true) }
  end

  # One for all files with examples that want it. Where it cannot be had, those examples say so.
  def with_real_kafka(jobs)
    wanted = jobs.any? { |job| File.read(File.join(ROOT, job.target[/\A[^:\[]+/])).include?(":real_kafka") }
    return yield unless wanted && RealKafka.available?

    kafka = timed("a real Kafka #{RealKafka::VERSION}") { RealKafka.start }
    ENV["SPEC_REAL_KAFKA"] = kafka.bootstrap_servers
    yield
  ensure
    kafka&.stop
  end

  def relative(target)
    File.expand_path(target).delete_prefix("#{ROOT}/")
  end

  def check(title, *command)
    output, status = timed(title) { capture(*command) }
    return if status.success?

    @out.puts output
    fail_with(title)
  end

  def count_cargo_test(output, status)
    results = output.scan(/^test result: .*? (\d+) passed; (\d+) failed; (\d+) ignored/)
    passed, failed, ignored = results.map { |counts| counts.map(&:to_i) }.transpose.map(&:sum)
    @passed += passed.to_i
    @skipped += ignored.to_i
    return if status.success? && passed.to_i.positive?

    @out.puts output
    @failed += [failed.to_i, 1].max
    @failures.concat(output.scan(/^test (.*) \.\.\. FAILED$/).map { |(name)| "cargo test: #{name}" })
    @failures << "cargo test: #{status}" if failed.to_i.zero?
  end

  def capture(*command)
    environment = command.first.is_a?(Hash) ? command.shift : {}
    environment = { "CARGO_TERM_COLOR" => "never", **environment }
    Open3.capture2e(environment, "timeout", "--kill-after=10", STEP_DEADLINE, *command, chdir: ROOT)
  end

  def report(outcome)
    counts = ["#{outcome.passed} passed", *("#{outcome.failed} FAILED" if outcome.failed.positive?),
              *("#{outcome.skipped} skipped" if outcome.skipped.positive?)].join(", ")
    line(outcome.job.title, "#{counts}, #{format('%.1f', outcome.seconds)} s")
    @out.puts outcome.output if outcome.failed.positive?
  end

  def timed(title)
    started = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    yield
  ensure
    line(title, format("%.1f s", Process.clock_gettime(Process::CLOCK_MONOTONIC) - started))
  end

  def line(title, result)
    @out.puts format("%-60s %s", title, result)
  end

  def fail_with(what, count = 1)
    @failed += count
    @failures << what
  end
end
