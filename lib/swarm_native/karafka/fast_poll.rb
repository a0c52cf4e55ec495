# frozen_string_literal: true

require_relative "callbacks"
require_relative "messages"

module SwarmNative
  module Karafka
    # How one consumer is polled. Karafka polls once a message, and each poll gives the GVL away: beside a thread that
    # burns CPU each message then waits for 100 ms. Here what librdkafka holds already is taken without giving the GVL
    # away, and only where it holds nothing is waited for, as before.
    #
    # It is still Karafka's client that polls, so what it makes of a poll stays: errors and retries, ends of partitions,
    # the time that a batch may take. Callbacks run in either kind of poll. And no thread of librdkafka's ever waits for
    # the GVL with a lock that a poll needs: the one thing that such threads tell is what they log, and that goes
    # through a queue (`log.queue`, which the bindings insist on).
    #
    # @api private
    class FastPoll
      # How many messages are taken in a row before others get the GVL, and for how many seconds: for the turnstile a
      # thread is a light one up to 2 ms. By the wall's clock, which is read without a call of the kernel: read for each
      # message, the thread's own took a fiftieth of all the time.
      COUNT = 500
      TIME = 0.001

      # Karafka's client, which makes its consumer by itself.
      module Client
        private

        def build_consumer
          super.tap { |consumer| FastPoll.serve(consumer, self) if Karafka.settings.fast_poll }
        end
      end

      # A consumer that is served.
      module Consumer
        attr_writer :swarm_native_poll

        def poll(timeout_ms) = @swarm_native_poll.call(timeout_ms) { super }
      end

      class << self
        def join
          ::Karafka::Connection::Client.prepend(Client)
          Callbacks.join
        end

        def serve(consumer, client)
          consumer.extend(Consumer)
          consumer.swarm_native_poll = new(consumer, client)
        end
      end

      def initialize(consumer, client)
        @consumer = consumer
        @client = client
        @kafka = consumer.instance_variable_get(:@native_kafka)
        @function = Rdkafka::Bindings.ffi_libraries.first.find_function("rd_kafka_consumer_poll")
        # By FFI, through which callbacks come back that run in a poll.
        @held = FFI::Function.new(:size_t, %i[pointer int], @function, blocking: false)
        @messages = Messages.new
        # From Ruby 3.3 on the turnstile knows of all waits; before, it has to be told of those that matter.
        @waits = Turnstile.respond_to?(:native_wait, true)
        turn_over
      end

      # @yield polls as the binding does it
      # @return [Rdkafka::Consumer::Message, nil]
      def call(timeout_ms, &plain)
        raise_late
        if may_hold?
          message = held
          return message if message
          # Partitions were taken away just now: Karafka is to hear of it at once, not when the wait is over. Of new
          # ones it hears with their first message, as ever: a batch that ends before would put that off by another.
          return unless @client.rebalance_manager.revoked_partitions.empty?
        end
        begin
          @waits ? wait(timeout_ms) : plain.call
        ensure
          turn_over
        end
      end

      private

      # Others have had the GVL.
      def turn_over
        @taken = 0
        @since = now
      end

      def may_hold?
        @taken += 1
        @taken <= COUNT && now - @since <= TIME
      end

      def now = ::Process.clock_gettime(::Process::CLOCK_MONOTONIC)

      def held
        take { |inner| @held.call(inner, 0) }
      end

      def wait(timeout_ms)
        message, @late = Callbacks.while_waiting do
          take { |inner| Turnstile.send(:native_wait, @function.address, inner.address, timeout_ms) }
        end
        raise_late unless message
        message
      end

      # A message that came with what a callback has raised is handed out first.
      def raise_late
        return unless @late

        late = @late
        @late = nil
        raise late
      end

      def take
        raise Rdkafka::ClosedConsumerError, :poll if @consumer.closed?

        @kafka.with_inner do |inner|
          address = yield inner
          address.zero? ? nil : @messages.take(address) || fail_of(FFI::Pointer.new(address), inner)
        end
      end

      # What is no message is an error.
      def fail_of(pointer, inner)
        Rdkafka::RdkafkaError.validate!(Rdkafka::Bindings::Message.new(pointer), **client(inner))
      ensure
        Rdkafka::Bindings.rd_kafka_message_destroy(pointer)
      end

      # Newer bindings ask the client for what is behind a fatal error.
      def client(inner)
        @asks ||= Rdkafka::RdkafkaError.method(:validate!).parameters.include?(%i[key client_ptr])
        @asks ? { client_ptr: inner } : {}
      end
    end
  end
end
