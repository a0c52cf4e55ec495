# frozen_string_literal: true

module SwarmNative
  module Kafka
    # A producer at rest has no handle, so that the process can fork, and makes a new one when it is used. See
    # {ForkGuard.quiesce}.
    # @private
    module Rest
      # @return [Boolean]
      def closed?
        super && !@rests
      end

      # @return [Integer]
      def queue_size
        super
      rescue ClosedHandle
        @rests ? 0 : raise
      end

      # @return [Boolean]
      def flush(timeout = nil)
        super
      rescue ClosedHandle
        @rests || raise
      end

      # @return [self]
      def purge
        super
      rescue ClosedHandle
        @rests ? self : raise
      end

      # @return [Hash{String => Integer}]
      def close(*timeout)
        @rests = false
        super
      end

      # Delivers what is queued and closes the handle until the next use.
      #
      # @param timeout [Float] seconds
      # @return [Boolean] false where not all was delivered in time; then nothing has changed
      def rest(timeout)
        due = Process.clock_gettime(Process::CLOCK_MONOTONIC) + timeout
        @rest_lock.synchronize do
          return true if closed? || @rests
          # A new handle would not know of its transactions.
          return false if @transactional
          return false unless native_flush(timeout)

          # Who uses it from now on waits until it is closed, and makes the handle anew.
          @rests = true
          native_close([due - Process.clock_gettime(Process::CLOCK_MONOTONIC), 0.1].max)
        end
        true
      end

      private

      def remember(config, made_at)
        @config = config
        @made_at = made_at
        @transactional = config.any? { |name, _| name.to_s == "transactional.id" }
        @rests = false
        @rest_lock = Mutex.new
      end

      # @return [Boolean] whether it was at rest, and now is not
      def wake_up
        return false unless @rests

        @rest_lock.synchronize do
          return true if !@rests && !closed?
          return false unless @rests

          native_reopen(@config, @made_at)
          @rests = false
        end
        true
      end
    end
    private_constant :Rest
  end
end
