# frozen_string_literal: true

# The suite tests the gem as it is installed: nothing here, and nothing in a spec, puts the tree's lib/ on the load path.

# The checkout, for specs of the files in it.
ROOT = File.expand_path("..", __dir__)

# RSpec puts lib/ there by itself.
$LOAD_PATH.delete("#{ROOT}/lib") unless ENV["RUBYLIB"].to_s.split(":").include?("#{ROOT}/lib")
require "swarm_native"

require_relative "support/ruby_process"
require_relative "support/test_gems"
require_relative "support/wait_until"

# `bin/test` sets it to the folder that it has installed the gem into.
if (home = ENV["SPEC_INSTALLED_GEM"])
  strangers = $LOADED_FEATURES.grep(/swarm_native/).reject { |path| path.start_with?("#{home}/") }
  abort "the specs loaded something else than the installed gem: #{strangers}" unless strangers.empty?
end

RSpec.configure do |config|
  config.include RubyProcess
  config.include WaitUntil
  config.include TestGems, :test_gems
  config.before(:each, :test_gems) do
    next if TestGems.available?

    why = "needs the gems of #{TestGems::SOURCE}"
    ENV["CI"] ? raise(why) : skip(why)
  end
  config.disable_monkey_patching!
  config.expect_with(:rspec) { |expectations| expectations.syntax = :expect }
  config.mock_with(:rspec) { |mocks| mocks.verify_partial_doubles = true }
  config.example_status_persistence_file_path = nil
  config.raise_errors_for_deprecations!
end
