# frozen_string_literal: true

module SwarmNative
  module Turnstile
    # A queue whose waits ask for the GVL when they come back. Those of Ruby's own queue do not on Ruby 3.1 and 3.2, where
    # the turnstile cannot see them.
    #
    # It does what Ruby's does, and a wait is ended by the same things: an item, {#close}, Thread#raise, #kill and #wakeup,
    # Timeout. What differs: the VM takes no waiting thread for one that sleeps for ever, and raises no "No live threads
    # left" for it.
    #
    # @api private
    class Queue
      # Seconds between the looks of a wait that cannot be woken. See {#pop}.
      LOOK = 0.005
      private_constant :LOOK

      # @return [self]
      # @raise [ClosedQueueError]
      def push(item)
        put(item) or raise ClosedQueueError, "queue closed"
        self
      end
      alias << push
      alias enq push

      # A fiber whose thread has a scheduler, and the main thread, look every 5 ms instead: other fibers go on meanwhile.
      # And signals are for the main thread, which on Ruby 3.1 and 3.2 hears of them in none but Ruby's own waits.
      #
      # @param timeout [Numeric, nil] seconds
      # @return [Object, nil] nil: none has come in time, or none can come any more
      # @raise [ThreadError] none is there, and it is not to wait
      def pop(non_block = false, timeout: nil) # rubocop:disable Style/OptionalBooleanParameter -- as Ruby's has it
        if non_block
          raise ArgumentError, "can't set a timeout if non_block is enabled" if timeout

          found = take_held
          raise ThreadError, "queue empty" if found.empty?

          return found.first
        end
        return look(timeout) if Fiber.current_scheduler || Thread.current.equal?(Thread.main)

        take(timeout)
      end
      alias shift pop
      alias deq pop

      # @return [self]
      def close
        native_close
        self
      end

      # @return [self]
      def clear
        native_clear
        self
      end

      # @return [Boolean]
      def empty? = length.zero?

      alias size length

      private

      def look(timeout)
        until_then = timeout && (now + Float(timeout))
        while (found = take_held).empty?
          # An item that came between the look and the close is still there.
          return take_held.first if closed?
          return if until_then && now >= until_then

          sleep(LOOK)
        end
        found.first
      end

      def now = ::Process.clock_gettime(::Process::CLOCK_MONOTONIC)
    end
  end
end
