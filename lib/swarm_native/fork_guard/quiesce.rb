# frozen_string_literal: true

module SwarmNative
  module ForkGuard
    # Closes for a while what can be opened again: our producers, and WaterDrop's.
    #
    # A thread that uses one of ours meanwhile waits until the block is over, or else no process whose threads produce all
    # the time could ever fork. Not for long: the block may be waiting for that thread.
    module Quiesce
      RESTABLE = %w[SwarmNative::Kafka::Producer WaterDrop::Producer].freeze
      private_constant :RESTABLE

      @lock = Mutex.new
      @over = ConditionVariable.new
      @by = []

      class << self
        # @param timeout [Float] seconds for all of them
        # @raise [ForkRefused] where something stays live
        def run(timeout)
          inside do
            close_all(now + timeout)
            yield
          end
        end

        # Waits until no other thread is inside, at most for the time that a fork waits for handles.
        def wait_until_over
          return if @by.empty?

          due = now + ForkGuard.gate_timeout
          @lock.synchronize do
            @over.wait(@lock, left(due)) while @by.any? { |thread| thread != Thread.current && thread.alive? } && now < due
          end
        end

        private

        def inside
          @lock.synchronize { @by << Thread.current }
          yield
        ensure
          @lock.synchronize do
            # Once: it may be inside a second time.
            @by.delete_at(@by.index(Thread.current) || @by.size)
            @over.broadcast
          end
        end

        def close_all(due)
          refuse_others
          each_live("SwarmNative::Kafka::Producer") { |producer| producer.rest(left(due)) unless producer.closed? }
          each_live("WaterDrop::Producer") { |producer| disconnect(producer, due) if producer.status.connected? }
          ForkGuard.check!
        end

        # What cannot be opened again refuses before the others are disturbed.
        def refuse_others
          due = now + ForkGuard.gate_timeout
          loop do
            others = Census.take.reject { |handle| RESTABLE.include?(handle.class_name) }
            return if others.empty?
            raise Refusal.of(others) if others.any? { |handle| handle.phase == :open } || now > due

            sleep 0.001
          end
        end

        def each_live(name, &block)
          return unless Object.const_defined?(name)

          ObjectSpace.each_object(Object.const_get(name)).to_a.each do |producer|
            block.call(producer)
          rescue StaleHandle
            # It is the parent's, and none of this process.
          end
        end

        # WaterDrop refuses while it is in use or has messages buffered; what is on its way it would wait for without end.
        def disconnect(producer, due)
          client = producer.client
          producer.disconnect if client.flush([(left(due) * 1000).ceil, 1].max)
        rescue ::Rdkafka::BaseError, ::WaterDrop::Errors::BaseError
          # It stays live, and the check after this one says so.
        end

        def left(due)
          [due - now, 0].max
        end

        def now
          Process.clock_gettime(Process::CLOCK_MONOTONIC)
        end
      end
    end
    private_constant :Quiesce
  end
end
