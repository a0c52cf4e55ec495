# frozen_string_literal: true

module SwarmNative
  module Kafka
    # State that is made when it is first asked for, once, however many threads ask. See {Kafka.lazy}.
    #
    # A process that was forked makes its own: a connection or a client of the process that forked it is of no use there.
    class Lazy
      # @api private
      def initialize(&make)
        raise ArgumentError, "lazy needs a block" unless make

        @make = make
        # Here and not when it is first needed: then two threads could make two.
        @lock = Mutex.new
        @made = nil
      end

      # The state. The first thread makes it, and the others wait for that.
      #
      # @return [Object] what the block has returned
      # @raise what the block raises; the next to ask tries again
      # @raise [Error] the block asks for its own value
      def value
        made = @made
        return made[1] if made && made[0] == Process.pid
        raise SwarmNative::Error, "the block of this lazy state asks for its own value" if @lock.owned?

        @lock.synchronize do
          @made = [Process.pid, @make.call].freeze unless made?
          @made[1]
        end
      end

      # @return [Boolean] whether this process has made it
      def made?
        made = @made
        !made.nil? && made[0] == Process.pid
      end

      # @return [String]
      def inspect
        "#<#{self.class} #{made? ? "made" : "not made yet"}>"
      end
    end
  end
end
