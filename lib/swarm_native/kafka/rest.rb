# frozen_string_literal: true

module SwarmNative
  module Kafka
    # A producer at rest has no handle, so that the process can fork, and makes a new one when it is used. See
    # {ForkGuard.quiesce}.
    #
    # Whether it rests stands with the handle itself, under one lock: a call that finds no handle is told by
    # RestingHandle that there will be one, whatever other threads do between that and its second try.
    # @private
    module Rest
      # @return [Integer]
      def queue_size
        super
      rescue RestingHandle
        0
      end

      # @return [Boolean]
      def flush(timeout = nil)
        super
      rescue RestingHandle
        true
      end

      # @return [self]
      def purge
        super
      rescue RestingHandle
        self
      end

      # Delivers what is queued and closes the handle until the next use.
      #
      # @param timeout [Float] seconds
      # @return [Boolean] false where not all was delivered in time; then nothing has changed
      def rest(timeout)
        due = Process.clock_gettime(Process::CLOCK_MONOTONIC) + timeout
        @rest_lock.synchronize do
          return true if closed?
          # A new handle would not know of its transactions.
          return false if @transactional
          return false unless native_flush(timeout)

          # Who uses it from now on waits until it is closed, and makes the handle anew.
          native_rest([due - Process.clock_gettime(Process::CLOCK_MONOTONIC), 0.1].max)
        end
        true
      rescue ClosedHandle
        true # somebody else was faster
      end

      private

      def remember(config, made_at, token)
        @token = token
        @listeners = {}.freeze
        @hearing = nil
        @hearing_lock = Mutex.new
        start_hearing if token
        @config = config
        @made_at = made_at
        @transactional = config.any? { |name, _| name.to_s == "transactional.id" }
        @rest_lock = Mutex.new
      end

      # Makes the handle anew, unless somebody else has, or has closed it. Not in the midst of another thread's quiesce.
      def wake_up
        ForkGuard.send(:after_quiesce)
        @rest_lock.synchronize { native_reopen(@config, @made_at) }
      end
    end
    private_constant :Rest
  end
end
