# frozen_string_literal: true

require "fileutils"
require "open3"
require "timeout"

# Breaks the rules of ext/swarm_core on purpose, one at a time, each in a copy, and sees whether the simulation finds it.
# A rule that can be broken without the simulation noticing is not proven by it.
class Mutants
  ROOT = File.expand_path("..", __dir__)
  PATCHES = File.join(ROOT, "ext", "swarm_core", "mutations")

  # The copy keeps its place, so that cargo compiles but what a patch has changed.
  COPY = File.join(ROOT, "tmp", "mutants")
  CRATE = File.join(COPY, "ext", "swarm_core")

  # Most mutants are found by fewer than 100. Without a mutation fewer do too: that they are sound is tested elsewhere.
  SCHEDULES = 20_000
  SOUND_SCHEDULES = 500

  # A mutant may do what has no end.
  DEADLINE = 120

  # Compiling costs more than running here: little is optimized, and all is kept from one mutant to the next.
  PROFILE = <<~TOML

    [profile.dev]
    debug = false
    [profile.dev.package.swarm_core]
    opt-level = 1
  TOML

  Outcome = Struct.new(:name, :found, :why, :seconds)

  class Failed < StandardError; end

  def self.names
    Dir[File.join(PATCHES, "*.patch")].map { |file| File.basename(file, ".patch") }.sort
  end

  def initialize(seed: 1)
    @seed = seed
  end

  # @yieldparam outcome [Outcome] of each mutant, as it is known
  # @return [Array<Outcome>]
  # @raise [Failed] where the simulation fails without any mutation, which says nothing about the mutants
  def run(names = self.class.names)
    copy
    build or raise Failed, "the copy without a mutation does not build:\n#{@output}"
    play(SOUND_SCHEDULES) == :sound or raise Failed, "the simulation fails without a mutation:\n#{@output}"
    names.map { |name| try(name).tap { |outcome| yield outcome if block_given? } }
  end

  private

  def copy
    FileUtils.mkdir_p(CRATE)
    restore
    FileUtils.cp(File.join(ROOT, "Cargo.lock"), COPY)
    workspace = File.read(File.join(ROOT, "Cargo.toml"))
    # The other crates are not copied. The lock file holds more than enough.
    File.write(File.join(COPY, "Cargo.toml"), workspace.sub(/^members = .*$/, 'members = ["ext/swarm_core"]') + PROFILE)
  end

  # Files that have not changed keep their times, or cargo would compile them again.
  def restore
    %w[Cargo.toml src tests examples].each do |part|
      Dir.glob("#{part}{,/**/*}", base: core).each { |file| restore_file(file) }
    end
    (Dir.glob("**/*.rs", base: CRATE) - Dir.glob("**/*.rs", base: core)).each { |file| FileUtils.rm(File.join(CRATE, file)) }
  end

  def restore_file(file)
    from, to = [core, CRATE].map { |folder| File.join(folder, file) }
    return FileUtils.mkdir_p(to) if File.directory?(from)

    FileUtils.cp(from, to) unless File.exist?(to) && FileUtils.compare_file(from, to)
  end

  def core
    File.join(ROOT, "ext", "swarm_core")
  end

  def try(name)
    started = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    found, why = judge(name)
    Outcome.new(name, found, why, Process.clock_gettime(Process::CLOCK_MONOTONIC) - started)
  ensure
    restore
  end

  def judge(name)
    return [false, "the patch does not apply:\n#{@output}"] unless apply(name)
    return [false, "it does not build:\n#{@output}"] unless build

    case play(SCHEDULES)
    when :broken then [true, @output[/^broken by seed .*/]]
    when :sound then [false, "#{SCHEDULES} schedules did not find it"]
    else [false, "neither found nor sound:\n#{@output}"]
    end
  end

  def apply(name)
    capture("patch", "-p1", "--fuzz=0", "--batch", "--no-backup-if-mismatch", "-i", File.join(PATCHES, "#{name}.patch"),
            chdir: CRATE).success?
  end

  def build
    capture(cargo_environment, "cargo", "build", "--offline", "--quiet", "--example", "soak", chdir: COPY).success?
  end

  def play(schedules)
    program = File.join(target, "debug", "examples", "soak")
    status = capture("timeout", "-k", "1", DEADLINE.to_s, program, schedules.to_s, @seed.to_s)
    return :sound if status.success?

    @output.match?(/^broken by seed/) ? :broken : :unknown
  end

  def cargo_environment
    { "CARGO_TARGET_DIR" => target, "CARGO_TERM_COLOR" => "never" }
  end

  def target
    File.join(COPY, "target")
  end

  def capture(*command, **options)
    @output, status = Open3.capture2e(*command, **options)
    status
  end
end
