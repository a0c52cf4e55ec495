# frozen_string_literal: true

require_relative "record"

module Soak
  # Counts what was consumed, and how much of it may have been consumed again.
  class Ledger
    # What was done is committed by then: twice the time between commits.
    COMMIT_MS = 500

    # @return [Integer] different messages
    attr_reader :seen
    # @return [Integer] how often one was consumed that had been before
    attr_reader :again

    # @param messages [Integer] they are numbered from 0
    def initialize(messages)
      @counts = "\0".b * messages
      @seen = @again = 0
      @readings = {}
    end

    # Reads what is new.
    # @return [self]
    def read
      Dir["consumed.*"].each do |path|
        (@readings[path] ||= Reading.new(path)).read { |numbers| numbers.each { |number| count(number) } }
      end
      self
    end

    # @return [Integer, nil] the first that nobody has consumed
    def first_lost = @counts.index("\0")

    # The work of the last half second of each process that had no chance to commit it. And for each time in which one was
    # kept from committing, but went on: the work of that time, and of half a second before it and after it, in which the
    # batches end that it had begun.
    #
    # @param kept [Array<Array(Integer, Integer, Integer)>] pids, with the milliseconds from and to which they were
    def allowed(kept)
      kept = kept.group_by(&:first)
      @readings.each_value.sum do |reading|
        (reading.finished ? 0 : reading.work_from(reading.end_ms - COMMIT_MS)) +
          kept.fetch(reading.pid, []).sum { |_, from, to| reading.work_from(from - COMMIT_MS, to + COMMIT_MS) }
      end
    end

    private

    def count(number)
      times = @counts.getbyte(number)
      times.zero? ? @seen += 1 : @again += 1
      @counts.setbyte(number, times + 1) if times < 255
    end
  end
end
