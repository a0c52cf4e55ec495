# frozen_string_literal: true

module SwarmNative
  module Karafka
    # Three calls of librdkafka that Karafka makes for each batch: the binding gives the GVL away for each, and before Ruby
    # 3.3 gets it back behind whoever burns CPU, 100 ms later. None of them waits for anything: an offset is stored in
    # the partition's place in memory, whether the assignment is lost is read from memory, and a poll of events with no
    # time to wait looks into a queue. So here they keep the GVL. Callbacks of that poll run as they do in the polls for
    # messages that keep it, see {FastPoll}.
    #
    # @api private
    module DirectCalls
      # Name and arguments; all give an int.
      CALLS = { rd_kafka_offsets_store: %i[pointer pointer], rd_kafka_assignment_lost: %i[pointer],
                rd_kafka_poll: %i[pointer int] }.freeze

      class << self
        # Where a process begins to consume.
        def begin
          return if @joined || !(HandOver.needed? && Karafka.settings.fast_hand_over)

          @joined = true
          Rdkafka::Bindings.singleton_class.prepend(bindings)
        end

        private

        def bindings
          calls = CALLS.to_h { |name, arguments| [name, function(name, arguments)] }
          Module.new do
            define_method(:rd_kafka_offsets_store) { |kafka, offsets| calls[:rd_kafka_offsets_store].call(kafka, offsets) }
            define_method(:rd_kafka_assignment_lost) { |kafka| calls[:rd_kafka_assignment_lost].call(kafka) }
            define_method(:rd_kafka_poll) do |kafka, timeout_ms|
              timeout_ms.zero? ? calls[:rd_kafka_poll].call(kafka, 0) : super(kafka, timeout_ms)
            end
          end
        end

        def function(name, arguments)
          FFI::Function.new(:int, arguments, Rdkafka::Bindings.ffi_libraries.first.find_function(name.to_s), blocking: false)
        end
      end
    end
  end
end
