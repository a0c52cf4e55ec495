# frozen_string_literal: true

module SwarmNative
  module Karafka
    # A process handle that answers like the one that Karafka 2.5.0 makes by FFI, whose place it takes there. Newer
    # versions have none, and signal by number; nodes of this drop-in use the handle everywhere.
    #
    # @api private
    class Pidfd
      class << self
        def supported? = SwarmNative::Pidfd.supported?

        # Puts this class where Karafka looks for its own, if it has one.
        def join
          return unless ::Karafka::Swarm.const_defined?(:Pidfd, false)

          ::Karafka::Swarm.send(:remove_const, :Pidfd)
          ::Karafka::Swarm.const_set(:Pidfd, self)
        end
      end

      def initialize(pid)
        @pidfd = SwarmNative::Pidfd.new(pid)
      rescue SystemCallError, ArgumentError => e
        raise failure(:PidfdOpenFailedError, e)
      end

      # @return [Boolean] false once the process has ended
      def alive?
        @pidfd.alive?
      rescue ClosedHandle
        false
      end

      # @return [Boolean] true: it was sent; false: the process has ended
      def signal(name)
        @pidfd.signal(name)
      rescue ClosedHandle
        false
      rescue SystemCallError => e
        raise failure(:PidfdSignalFailedError, e)
      end

      # Waits until the process has ended, and takes it from the process table.
      def cleanup
        @pidfd.cleanup
        nil
      rescue ClosedHandle
        nil
      end

      def close = @pidfd.close

      private

      def failure(name, error)
        errors = ::Karafka::Errors
        errors.const_defined?(name) ? errors.const_get(name).new(error.message) : error
      end
    end
  end
end
