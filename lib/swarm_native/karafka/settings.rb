# frozen_string_literal: true

module SwarmNative
  module Karafka
    # What {Karafka.setup} sets: the settings of {Supervisor.settings} that Karafka has none for, and a few of its own.
    # Values are checked when the swarm starts, all at once.
    class Settings
      # Karafka's own settings say these, or its way of working does.
      KARAFKAS = %w[nodes report report_interval report_timeout ready ready_after shutdown_timeout orphan_exit_code warmup
                    at_exit].freeze
      # Here `restart_backoff` says both.
      BACKOFF = %w[backoff_min backoff_max].freeze
      private_constant :KARAFKAS, :BACKOFF

      # Names of settings that the supervisor takes as they are.
      PASSED = (Supervisor.settings.map(&:first) - KARAFKAS - BACKOFF).map(&:to_sym).freeze

      PASSED.each do |name|
        define_method(name) { @passed[name] }
        define_method("#{name}=") { |value| @passed[name] = value }
      end

      # The delay of a replacement after a failed boot or a crash loop, in seconds: the first and the longest. A number
      # is the first.
      # @return [Range, Numeric, nil] nil: 1.0 to 30.0, or from Karafka's `node_restart_timeout` where that was set
      attr_accessor :restart_backoff

      # Whether a second INT, TERM or QUIT, more than a second after the first, kills the nodes at once.
      # @return [Boolean] false: as in Karafka, it changes nothing
      attr_accessor :second_stop_kills

      # Whether processes that consume have the {Turnstile} on, and a Hash: with these settings of it. Where it is on
      # already, it stays as it is.
      # @return [Boolean, Hash{Symbol => Numeric}] true
      attr_reader :turnstile

      # Whether consumers take what librdkafka holds already without giving the GVL away for each message.
      # @return [Boolean] true
      attr_reader :fast_poll

      # Whether batches pass between listeners and workers in ways that the turnstile sees, on Ruby 3.1 and 3.2: see
      # {HandOver} and {DirectCalls}. Newer Rubies need none of it.
      # @return [Boolean] true
      attr_reader :fast_hand_over

      def initialize
        @passed = {}
        @second_stop_kills = false
        @turnstile = @fast_poll = @fast_hand_over = true
      end

      # @raise [ConfigurationError]
      def turnstile=(value)
        @turnstile = checked(:turnstile, value, "true, false, or settings such as { budget: 0.2 }") do
          [true, false].include?(value) || value.is_a?(Hash)
        end
      end

      # @raise [ConfigurationError]
      def fast_poll=(value)
        @fast_poll = checked(:fast_poll, value, "true or false") { [true, false].include?(value) }
      end

      # @raise [ConfigurationError]
      def fast_hand_over=(value)
        @fast_hand_over = checked(:fast_hand_over, value, "true or false") { [true, false].include?(value) }
      end

      # @api private
      # @return [Hash{Symbol => Object}] what was set, as the supervisor takes it
      def to_policy
        @passed.merge(backoff)
      end

      def method_missing(name, *) # rubocop:disable Style/MissingRespondToMissing -- to say what there is, not to answer
        return super unless name.end_with?("=")

        allowed = [*PASSED, :restart_backoff, :second_stop_kills, :turnstile, :fast_poll, :fast_hand_over]
        raise ConfigurationError, "#{name.to_s.delete_suffix("=")}: no such setting, allowed: #{allowed.join(", ")}"
      end

      private

      def checked(name, value, allowed)
        return value if yield

        raise ConfigurationError, "#{name}: #{value.inspect} given, allowed: #{allowed}"
      end

      def backoff
        case restart_backoff
        when nil then {}
        when Range then { backoff_min: restart_backoff.begin, backoff_max: restart_backoff.end }.compact
        when Numeric then { backoff_min: restart_backoff, backoff_max: [restart_backoff, 30.0].max }
        else
          raise ConfigurationError, "restart_backoff: #{restart_backoff.inspect} given, allowed: seconds, or a range of " \
                                    "seconds such as 1.0..30.0"
        end
      end
    end
  end
end
