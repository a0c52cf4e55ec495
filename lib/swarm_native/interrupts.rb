# frozen_string_literal: true

require "timeout"

module SwarmNative
  # When what another thread raises at this one (Thread#raise, Thread#kill, Timeout) may come. It comes at any line, also
  # between a result and its use, and a rescue that is meant for a user's block swallows it.
  #
  # @api private
  module Interrupts
    # What Timeout raises, in each of its versions.
    TIMEOUTS = [Timeout::Error, (Timeout::ExitException if defined?(Timeout::ExitException))].compact.freeze
    NEVER = { Object => :never }.freeze
    WAITING = { Object => :on_blocking }.freeze
    ALWAYS = { Object => :immediate }.freeze
    TIMED = { Object => :never, **TIMEOUTS.to_h { |error| [error, :immediate] } }.freeze
    private_constant :TIMEOUTS, :NEVER, :WAITING, :ALWAYS, :TIMED

    class << self
      # Not in this block: once it is over.
      def held_back(&block) = Thread.handle_interrupt(NEVER, &block)

      # Only where this block waits.
      def let_in_by_waiting(&block) = Thread.handle_interrupt(WAITING, &block)

      # At once.
      def let_in(&block) = Thread.handle_interrupt(ALWAYS, &block)

      # For a user's block, which may have timeouts of its own, of any class. What is there already is not meant for it.
      def let_in_new(&block) = Thread.handle_interrupt(Thread.pending_interrupt? ? TIMED : ALWAYS, &block)

      # Timeouts only, which may be the block's own.
      def only_timeouts(&block) = Thread.handle_interrupt(TIMED, &block)
    end
  end
end
