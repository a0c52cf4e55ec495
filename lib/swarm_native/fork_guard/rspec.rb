# frozen_string_literal: true

require "rspec/expectations"
require "swarm_native/fork_guard"

# `expect { }.to be_fork_safe`: after the block a fork would be permitted. For the test of what runs before a preforking
# server forks: the boot of the app, a `before_fork` hook.
#
# @example
#   require "swarm_native/fork_guard/rspec"
#
#   it "can be preloaded" do
#     expect { MyApp.boot }.to be_fork_safe
#   end
RSpec::Matchers.define :be_fork_safe do
  supports_block_expectations

  match do |block|
    block.call
    SwarmNative::ForkGuard.check!
    true
  rescue SwarmNative::ForkRefused => e
    @refusal = e
    false
  end

  match_when_negated do |block|
    block.call
    !SwarmNative::ForkGuard.safe?
  end

  failure_message do
    live = @refusal.handles
    "expected the process to be fork-safe afterwards, but #{live.one? ? 'this is' : 'these are'} live:\n" \
      "#{live.map { |handle| "  #{handle}" }.join("\n")}"
  end

  failure_message_when_negated { "expected a librdkafka handle to be live afterwards, but none is" }
end
