# frozen_string_literal: true

module SwarmNative
  module Karafka
    # A listener begins by waiting for 100 ms for events of librdkafka's, so that statistics and the like are there
    # early. A replacement has its assignment long before that, which the listener learns only by polling for messages.
    # So here this first wait ends as soon as something has come, be it an event or an assignment.
    #
    # @api private
    module FirstPoll
      # Seconds between looks.
      LOOK = 0.002

      # Karafka's client, whose first poll of events makes its consumer.
      module Client
        def events_poll(timeout = 0, **options)
          first = timeout.positive? && !@kafka && Karafka.settings.fast_poll
          FirstPoll.wait(kafka, timeout / 1000.0) if first
          super(first ? 0 : timeout, **options)
        end
      end

      class << self
        def join
          ::Karafka::Connection::Client.prepend(Client)
        end

        # Until one of the consumer's two queues holds something, or so many seconds have passed.
        def wait(consumer, seconds)
          due = now + seconds
          consumer.instance_variable_get(:@native_kafka).with_inner do |inner|
            queues = %w[main consumer].map { |name| call(:pointer, "rd_kafka_queue_get_#{name}", inner) }
            queues.reject!(&:null?)
            sleep LOOK until now > due || queues.any? { |queue| holds_something?(queue) }
          ensure
            queues&.each { |queue| call(:void, "rd_kafka_queue_destroy", queue) }
          end
        end

        private

        def holds_something?(queue) = call(:size_t, "rd_kafka_queue_length", queue).positive?

        def call(result, name, argument)
          @functions ||= {}
          function = @functions[name] ||= begin
            address = Rdkafka::Bindings.ffi_libraries.first.find_function(name)
            FFI::Function.new(result, [:pointer], address, blocking: false)
          end
          function.call(argument)
        end

        def now = ::Process.clock_gettime(::Process::CLOCK_MONOTONIC)
      end
    end
  end
end
