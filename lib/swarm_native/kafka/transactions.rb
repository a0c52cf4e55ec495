# frozen_string_literal: true

module SwarmNative
  module Kafka
    # A {Producer}'s transactions. They need a `transactional.id`.
    #
    # @example Exactly once from one topic to another
    #   producer = SwarmNative::Kafka::Producer.new("bootstrap.servers": "127.0.0.1:9092", "transactional.id": "billing-1")
    #   producer.init_transactions
    #   consumer.each_batch do |batch|
    #     producer.transaction do
    #       batch.each { |message| producer.produce(topic: "bills", payload: bill(message.payload)) }
    #       producer.send_offsets(batch, consumer)
    #     end
    #   end
    module Transactions
      # Takes over the `transactional.id`: a producer that had it before is fenced off. Once, before the first
      # transaction.
      #
      # @param timeout [Float] seconds
      # @return [self]
      # @raise [Kafka::Error] `retriable?`: call it again; `fatal?`: this producer cannot be used
      def init_transactions(timeout = 60.0)
        Kafka.wait { native_init_transactions(timeout) }
        self
      end

      # What is produced from now on, until the commit or the abort, belongs to the transaction.
      #
      # @return [self]
      # @raise [Kafka::Error]
      def begin_transaction
        native_begin_transaction
        @abort_owed = false
        self
      end

      # Commits a consumer's offsets with the transaction. That consumer does not commit them itself: it has
      # `"enable.auto.commit": false`.
      #
      # @param offsets [Message, Batch, Array<Message>, Hash] as for {Offsets#commit}
      # @param consumer [Consumer] whose they are
      # @param timeout [Float] seconds
      # @return [self]
      # @raise [Kafka::Error] `retriable?`: call it again; `requires_abort?`: abort; `fatal?`: close the producer
      def send_offsets(offsets, consumer, timeout: 60.0)
        list = consumer.send(:commit_list, offsets)
        raise TypeError, "send_offsets needs offsets, not nil" if list.nil?

        Kafka.wait { native_send_offsets(list, consumer, timeout) }
        self
      end

      # Flushes, and commits the transaction.
      #
      # @param timeout [Float] seconds
      # @return [self]
      # @raise (see #send_offsets)
      def commit_transaction(timeout = 60.0)
        Kafka.wait { native_commit_transaction(timeout) }
        self
      end

      # Gives the transaction up; what is still queued fails with `:purge_queue`.
      #
      # @param timeout [Float] seconds
      # @return [self]
      # @raise (see #send_offsets)
      def abort_transaction(timeout = 60.0)
        Kafka.wait { native_abort_transaction(timeout) }
        self
      end

      # Runs a block within a transaction: commits when it has returned, aborts when it raises (and lets that through).
      # A commit that failed and may succeed is tried again until the time is over; an abort that was not done by then
      # is finished by the next transaction.
      #
      # @param timeout [Float] seconds for the commit, and for the abort
      # @return [Object] what the block returns
      # @raise [Kafka::Error] what the commit failed with. `requires_abort?`: that is done. `retriable?`: the time was
      #   over, the commit is still under way, and what becomes of it is not known: call {#commit_transaction} again, or
      #   close the producer. `fatal?`: close it
      def transaction(timeout: 60.0)
        finish_abort(timeout) if @abort_owed
        begin_transaction
        begin
          result = yield
          commit_until(Process.clock_gettime(Process::CLOCK_MONOTONIC) + timeout)
          committed = true
          result
        ensure
          abort_after_failure(timeout) unless committed
        end
      end

      private

      def commit_until(deadline)
        commit_transaction([deadline - Process.clock_gettime(Process::CLOCK_MONOTONIC), 0].max)
      rescue Error => e
        raise unless e.retriable? && !e.requires_abort? && Process.clock_gettime(Process::CLOCK_MONOTONIC) < deadline

        retry
      end

      # What the block or the commit has raised is what the user is to see.
      def abort_after_failure(timeout)
        # Until it is done: it may fail, and it may be interrupted.
        @abort_owed = true
        abort_transaction(timeout)
        @abort_owed = false
      rescue Error, ClosedHandle
        nil
      end

      def finish_abort(timeout)
        abort_transaction(timeout)
      rescue Error => e
        # Nothing of it is left.
        raise unless e.name == :state
      end
    end
  end
end
