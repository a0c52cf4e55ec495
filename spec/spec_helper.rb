# frozen_string_literal: true

# The suite tests the gem as it is installed: nothing here, and nothing in a spec, puts the tree's lib/ on the load path.

require "swarm_native"

require_relative "support/ruby_process"
require_relative "support/wait_until"

# The checkout, for specs of the files in it.
ROOT = File.expand_path("..", __dir__)

# `bin/test` sets it after it has installed the gem.
if ENV["SPEC_INSTALLED_GEM"] && $LOADED_FEATURES.any? { |path| path.start_with?("#{ROOT}/lib/") }
  abort "the specs loaded the source tree instead of the installed gem: look at RUBYLIB and -I"
end

RSpec.configure do |config|
  config.include RubyProcess
  config.include WaitUntil
  config.disable_monkey_patching!
  config.expect_with(:rspec) { |expectations| expectations.syntax = :expect }
  config.mock_with(:rspec) { |mocks| mocks.verify_partial_doubles = true }
  config.example_status_persistence_file_path = nil
  config.raise_errors_for_deprecations!
end
