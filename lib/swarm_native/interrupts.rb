# frozen_string_literal: true

module SwarmNative
  # When what another thread raises at this one (Thread#raise, Thread#kill, Timeout) may come. It comes at any line, also
  # between a result and its use, and a rescue that is meant for a user's block swallows it.
  #
  # A thread inherits what holds interrupts back where it is made, and one that lets in none can never be ended, so that
  # its process cannot end either. So users' code is called by {let_in} alone.
  #
  # @api private
  module Interrupts
    NEVER = { Object => :never }.freeze
    WAITING = { Object => :on_blocking }.freeze
    ALWAYS = { Object => :immediate }.freeze
    private_constant :NEVER, :WAITING, :ALWAYS

    class << self
      # Not in this block: once it is over.
      def held_back(&block) = Thread.handle_interrupt(NEVER, &block)

      # Only where this block waits.
      def let_in_by_waiting(&block) = Thread.handle_interrupt(WAITING, &block)

      # At once.
      def let_in(&block) = Thread.handle_interrupt(ALWAYS, &block)
    end
  end
end
