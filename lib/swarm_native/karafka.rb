# frozen_string_literal: true

require_relative "../swarm_native"

unless defined?(Karafka::App)
  raise LoadError, "swarm_native/karafka is required after karafka: put require \"swarm_native/karafka\" below " \
                   "require \"karafka\""
end

require_relative "karafka/settings"
require_relative "karafka/contract"

module SwarmNative
  # Runs `karafka swarm` on the native supervisor, and has a light topic of any Karafka process pass busy ones. One
  # require does it, after Karafka's own:
  #
  #   require "karafka"
  #   require "swarm_native/karafka"
  #
  # Karafka's settings, signals, exit codes and events stay; see docs/karafka.md for what changes.
  module Karafka
    class << self
      # Settings beyond Karafka's own; all have defaults, so that no call is needed.
      #
      # @example
      #   SwarmNative::Karafka.setup do |config|
      #     config.restart_backoff = 1.0..30.0
      #   end
      # @yieldparam settings [Settings]
      # @return [Settings]
      def setup
        yield settings if block_given?
        settings
      end

      # @return [Settings]
      def settings
        @settings ||= Settings.new
      end

      # @return [Loop, nil] what runs the swarm of this process, in its supervisor and in its nodes
      # @api private
      attr_accessor :loop
    end
  end
end

SwarmNative::Karafka::Contract.check!

require_relative "karafka/consuming"
require_relative "karafka/fast_poll"
require_relative "karafka/hand_over"
require_relative "karafka/direct_calls"
require_relative "karafka/first_poll"
require_relative "karafka/rejoin"
require_relative "karafka/pidfd"
require_relative "karafka/events"
require_relative "karafka/fork_body"
require_relative "karafka/node"
require_relative "karafka/loop"
require_relative "karafka/manager"
require_relative "karafka/supervision"
require_relative "karafka/signals"

SwarmNative::Karafka::Consuming.join
SwarmNative::Karafka::FastPoll.join
SwarmNative::Karafka::HandOver.join
SwarmNative::Karafka::FirstPoll.join
SwarmNative::Karafka::Rejoin.join
SwarmNative::Karafka::Pidfd.join
SwarmNative::Karafka::Events.join
SwarmNative::Karafka::ForkBody.join
SwarmNative::Karafka::Supervision.join
SwarmNative::Karafka::Signals.join
# Karafka, and librdkafka with it, may have been loaded after the guard.
SwarmNative::ForkGuard.remember_places
Karafka::App.config.internal.swarm.manager = SwarmNative::Karafka::Manager.new
