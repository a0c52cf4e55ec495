# frozen_string_literal: true

require_relative "tokens"

module SwarmNative
  module Kafka
    # What a {Producer} tells of. The blocks run one after the other on a thread of the producer's own, which the first of
    # them starts and {Producer#close} ends, once all is told. There is one block of each kind; a later one takes the
    # place of the earlier.
    #
    # No wait of the producer's waits for them, but for {Producer#close}, and that no longer than its own time (or a
    # second, where that is more). What they have not heard of by then they hear of later, as long as the process lives.
    #
    # What a block raises goes to {SwarmNative.logger}. A producer that is listened to lives until it is closed.
    module Hearing
      include Tokens

      WANTS = { delivered: 1, error: 2, statistics: 8, log: 16 }.freeze
      # Seconds that a close waits for blocks that have still to run, where its own time is over before.
      LAST_WORDS = 1.0
      private_constant :WANTS, :LAST_WORDS

      # Messages have their answers. Who is slow gets more of them at a time; they wait without a bound, and
      # {Producer#untold} says how many there are.
      #
      # @example
      #   producer.on_delivered { |deliveries| failed.concat(deliveries.select(&:error)) }
      # @yieldparam deliveries [Array<Delivery>] delivered or failed; of all messages that are answered from now on
      # @return [self]
      def on_delivered(&block)
        listen(:delivered, block)
      end

      # An error of the client as a whole, such as a broker that went away.
      # @yieldparam error [Kafka::Error]
      # @return [self]
      def on_error(&block)
        listen(:error, block)
      end

      # Needs a `statistics.interval.ms`. Where they come faster than the block hears them, only the newest are kept.
      # @yieldparam statistics [Hash{String => Object}] librdkafka's own, and `"skipped"`: how many were passed over since
      #   the last ones (an Integer)
      # @return [self]
      def on_statistics(&block)
        require "json"
        listen(:statistics, block)
      end

      # A line of librdkafka's log, within 0.3 s. The newest thousand wait; where older ones were lost, a line of
      # the facility "LOST" says how many.
      # @yieldparam severity [Symbol] `:error`, `:warn`, `:info` or `:debug`
      # @yieldparam facility [String] such as "FAIL"
      # @yieldparam line [String]
      # @return [self]
      def on_log(&block)
        listen(:log, block)
      end

      private

      def listen(kind, block)
        raise ArgumentError, "on_#{kind} needs a block" unless block

        # A Hash that is never changed: the thread reads it meanwhile.
        @listeners = { **@listeners, kind => block }
        native_listen(@listeners.keys.sum { |known| WANTS.fetch(known) })
        start_hearing
        self
      end

      def start_hearing
        @hearing_lock.synchronize do
          @hearing ||= Thread.new { hear_all }.tap { |thread| thread.name = "swarm producer" }
        end
      end

      def hear_all
        while (news = native_hear)
          hear(*news)
        end
      end

      def hear(kind, about, skipped = nil)
        case kind
        when :token then fetch_token(about)
        when :statistics then @listeners[kind]&.call(JSON.parse(about).merge("skipped" => skipped))
        when :log then about.each { |line| @listeners[kind]&.call(*line) }
        else @listeners[kind]&.call(about)
        end
      rescue ClosedHandle
        nil # a token came too late
      rescue StandardError => e
        SwarmNative.logger&.error("the block of on_#{kind} raised: #{e.message} (#{e.class})")
      end

      # Nothing more comes; waits until all is told, unless it is the thread that tells.
      def end_hearing(deadline)
        native_end_hearing
        return if @hearing.nil? || @hearing == Thread.current
        return if @hearing.join(deadline && [deadline - Process.clock_gettime(Process::CLOCK_MONOTONIC), LAST_WORDS].max)

        SwarmNative.logger&.warn("#{inspect} is closed while a block that it calls still runs. #{untold} deliveries have " \
                                 "still to be told to on_delivered")
      end
    end
  end
end
