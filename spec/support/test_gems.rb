# frozen_string_literal: true

require "fileutils"
require "open3"
require "rbconfig"

# The real Karafka, async and others for the specs that meet them: from a folder of gem files beside the checkout, so
# that no registry is asked. They are installed once into the tree's tmp/.
#
# An example that needs them carries the tag :test_gems and gives `test_gems_env` to `run_ruby`. Without the folder it
# is skipped, in CI it fails.
module TestGems
  ROOT = File.expand_path("../..", __dir__)
  SOURCE = File.expand_path("../shared/gems", ROOT)
  HOME = File.join(ROOT, "tmp", "test-gems", "#{RUBY_ENGINE}-#{RbConfig::CONFIG['ruby_version']}")

  class << self
    def available?
      File.executable?(File.join(SOURCE, "install"))
    end

    # Does nothing when they are installed already.
    def ensure_installed
      FileUtils.mkdir_p(HOME)
      File.open(File.join(HOME, "lock"), File::RDWR | File::CREAT) do |lock|
        lock.flock(File::LOCK_EX)
        output, status = Open3.capture2e(File.join(SOURCE, "install"), HOME)
        raise "#{SOURCE}/install failed:\n#{output}" unless status.success?
      end
    end
  end

  # What `run_ruby` needs in its env: for gems that are compiled, and so installed, by the Ruby that runs the specs.
  def test_gems_env
    TestGems.ensure_installed
    { "GEM_PATH" => [HOME, ENV["GEM_PATH"].to_s].join(":") }
  end
end
