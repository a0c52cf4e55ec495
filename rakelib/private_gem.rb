# frozen_string_literal: true

require "digest"
require "fileutils"
require "open3"
require "rbconfig"
require "shellwords"

# The gem as a user gets it, packed and installed by RubyGems, in a folder of the tree: what the specs, the demo and the
# benchmark run against. It never touches the gems of whoever runs it.
module PrivateGem
  ROOT = File.expand_path("..", __dir__)
  GEMSPEC = File.join(ROOT, "karafka_swarm.gemspec")

  # Each Ruby has a folder of its own: a compiled extension fits one.
  HOME = File.join(ROOT, "tmp", "gems", "#{RUBY_ENGINE}-#{RbConfig::CONFIG['ruby_version']}")
  STAMP = File.join(HOME, "installed")

  class Failed < StandardError; end

  class << self
    # Installs the gem unless the very same one is there.
    def ensure_installed
      return if current?

      with_lock(File::LOCK_EX) { install unless current? }
    end

    # The gem stays as it is while the block runs: another run in the same tree would pull it from under the specs.
    def in_use(&block)
      with_lock(File::LOCK_SH, &block)
    end

    # First of all places where RubyGems looks; the empty end stands for Ruby's own gems.
    def gem_path
      [HOME, *ENV["GEM_HOME"], *ENV["GEM_PATH"]&.split(":")].reject(&:empty?).uniq.push("").join(":")
    end

    # @return [String] the packed gem's file
    def build(folder)
      FileUtils.mkdir_p(folder)
      file = File.join(folder, "#{specification.full_name}.gem")
      run({}, "build", "--output", file, GEMSPEC)
      file
    end

    # The `gem` command of the Ruby that runs this; the one on the PATH may be another's, or a version manager's script.
    def run(env, *arguments)
      output, status = Open3.capture2e(env, RbConfig.ruby, "-rrubygems/gem_runner", "-e",
                                       "Gem::GemRunner.new.run(ARGV)", "--", *arguments, chdir: ROOT)
      raise Failed, "gem #{arguments.shelljoin} failed:\n#{output}" unless status.success?

      output
    end

    private

    def with_lock(kind)
      FileUtils.mkdir_p(HOME)
      File.open(File.join(HOME, "lock"), File::RDWR | File::CREAT) do |lock|
        unless lock.flock(kind | File::LOCK_NB)
          warn "Another run in this folder uses the gem that is to be replaced: waiting for its end ..."
          lock.flock(kind)
        end
        yield
      end
    end

    def current?
      File.exist?(STAMP) && File.read(STAMP) == fingerprint
    end

    def install
      FileUtils.rm_f(STAMP)
      packed = fingerprint
      warn "Building the gem (the first time it takes about two minutes) ..."
      file = build(File.join(HOME, "pkg"))
      # RubyGems does not replace a file of the same version there.
      FileUtils.rm_rf(File.join(HOME, "cache"))
      run(sharing_cargo, "install", "--local", "--force", "--no-document", "--install-dir", HOME,
          "--bindir", File.join(HOME, "bin"), file)
      File.write(STAMP, packed)
    end

    # With SPEC_PLAIN_INSTALL cargo builds where and how RubyGems tells it to, as for any user.
    def sharing_cargo
      return {} if ENV["SPEC_PLAIN_INSTALL"]

      { "CARGO" => File.join(__dir__, "cargo"), "REAL_CARGO" => ENV["CARGO"],
        "SHARED_TARGET" => ENV.fetch("CARGO_TARGET_DIR", File.join(ROOT, "target")) }
    end

    def fingerprint
      digest = Digest::SHA256.new
      digest << RUBY_DESCRIPTION << Gem::VERSION << ENV["SWARM_NATIVE_FEATURES"].to_s << File.read(GEMSPEC)
      specification.files.sort.each { |file| digest << file << "\0" << File.binread(File.join(ROOT, file)) << "\0" }
      digest.hexdigest
    end

    def specification
      @specification ||= Gem::Specification.load(GEMSPEC) || raise(Failed, "karafka_swarm.gemspec does not load")
    end
  end
end

# As a command: installs, and prints what a shell has to export.
if $PROGRAM_NAME == __FILE__
  begin
    PrivateGem.ensure_installed
    puts "export GEM_PATH=#{PrivateGem.gem_path.shellescape}"
  rescue PrivateGem::Failed => e
    abort e.message
  end
end
