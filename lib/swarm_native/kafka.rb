# frozen_string_literal: true

require_relative "errors"
require_relative "library"

module SwarmNative
  # Kafka's clients, by librdkafka: {Producer}, {Consumer} and, for tests and demos, {EmbeddedBroker}.
  #
  # Their handles are known to {ForkGuard}: no process forks while one is live, and in a process that did not make it a
  # handle raises {StaleHandle}.
  module Kafka
    # How long a process that exits still gives handles that nobody has closed.
    EXIT_TIME = 1.0

    class << self
      # @return [Boolean] false where the gem was built without Kafka
      def available?
        const_defined?(:MockCluster, false)
      end

      # State that is made when it is first asked for, once, however many threads ask at a time. A forked process makes
      # its own.
      #
      # @example
      #   PRODUCER = SwarmNative::Kafka.lazy { SwarmNative::Kafka::Producer.new("bootstrap.servers": "127.0.0.1:9092") }
      #   PRODUCER.value.produce(topic: "orders", payload: "1 apple")
      # @yieldreturn [Object] the state
      # @return [Lazy]
      def lazy(&make)
        Lazy.new(&make)
      end

      # Whether the first producer or consumer of a process switches the {Turnstile} on, so that threads that wait for
      # Kafka get the GVL back at once beside threads that burn CPU. True by default; an application that has switched it
      # on or off by itself keeps that.
      #
      # @return [Boolean, Hash] a Hash: with these settings of {Turnstile.enable}
      attr_reader :turnstile

      # @param value [Boolean, Hash] before the first producer or consumer of the process
      # @raise [ArgumentError]
      def turnstile=(value)
        unless [true, false].include?(value) || value.is_a?(Hash)
          raise ArgumentError, "turnstile: #{value.inspect} given, allowed: true, false, or settings such as { budget: 0.2 }"
        end

        @turnstile = value
      end

      # @private true in a fiber that must not wait by itself, because a scheduler waits for all
      def scheduled?
        !Fiber.current_scheduler.nil?
      end

      # @private runs a call that waits. Under a fiber scheduler a thread does, and the fiber waits for the thread
      def wait(&call)
        return call.call unless scheduled?

        thread = Thread.new(&call)
        thread.report_on_exception = false
        begin
          thread.value
        ensure
          thread.kill
        end
      end

      # @private the user's line that calls into the gem, as "file:line"
      def made_at
        ForkGuard.send(:place)
      end

      private

      # Once in each process: who switches the turnstile off afterwards has it off.
      def turn_on
        return if @turned_on == Process.pid

        @turned_on = Process.pid
        return if turnstile == false || Turnstile.enabled?

        Turnstile.enable(**(turnstile == true ? {} : turnstile))
      end
    end

    @turnstile = true
  end
end

require_relative "kafka/error"
require_relative "kafka/lazy"

if SwarmNative::Kafka.available?
  require_relative "kafka/deliveries"
  require_relative "kafka/delivery"
  require_relative "kafka/producer"
  require_relative "kafka/batch"
  require_relative "kafka/consumer"
  require_relative "kafka/admin"
  # Most processes need none, and reading it takes a millisecond.
  SwarmNative::Kafka.autoload(:Processor, File.join(__dir__, "kafka", "processor"))
  # For tests and demos. What it needs of Ruby's library takes a megabyte of memory.
  SwarmNative::Kafka.autoload(:EmbeddedBroker, File.join(__dir__, "kafka", "embedded_broker"))

  # Registered when the gem is loaded, so that it runs after the blocks of those who use it.
  at_exit do
    lost = SwarmNative::Kafka.send(:native_close_all, SwarmNative::Kafka.const_get(:EXIT_TIME))
    if lost.positive?
      warn "swarm_native: #{lost} Kafka messages were not delivered, because a producer was not closed before the exit"
    end
  end
else
  require_relative "kafka/unavailable"
end
