# frozen_string_literal: true

require "io/console"
require_relative "clock"
require_relative "frame"
require_relative "words"

module Demo
  # What somebody sees while the demo runs: a picture that is drawn over and over on a terminal, lines elsewhere.
  module View
    # @param output [IO]
    # @param quiet [Boolean] shows nothing at all
    def self.for(output, quiet: false)
      return Nothing.new if quiet

      output.tty? && ENV["TERM"] != "dumb" ? Screen.new(output) : Lines.new(output)
    end

    # @return [Boolean] see no-color.org
    def self.colour?(output)
      output.tty? && ENV["TERM"] != "dumb" && ENV.fetch("NO_COLOR", "").empty?
    end

    # Nobody looks.
    class Nothing
      def say(_line) = nil
      def begin(_run) = nil
      def show(_run, _happening) = nil
      def finish(_run) = nil
    end

    # A terminal.
    class Screen
      PERIOD = 0.1

      def initialize(output)
        @output = output
        @height = 0
        @drawn_at = 0.0
      end

      def say(line)
        @output.write("#{line}\n")
      end

      def begin(run)
        draw(run)
      end

      def show(run, _happening)
        draw(run) if Clock.now - @drawn_at >= PERIOD
      end

      # The last picture stays.
      def finish(run)
        draw(run, final: true)
        @output.write("\n")
        @height = 0
      end

      private

      def draw(run, final: false)
        @drawn_at = Clock.now
        rows, columns = @output.winsize
        # A terminal that does not tell its size says 0.
        rows, columns = 24, 80 if columns.zero? # rubocop:disable Style/ParallelAssignment
        lines = frame(columns).lines(run, @drawn_at, final: final).first([rows - 1, 1].max)
        @output.write("#{erase}#{lines.join("\n")}\n")
        @height = lines.size
      end

      # A line as wide as the terminal would make some terminals begin a new one.
      def frame(columns)
        Frame.new(width: [columns - 1, 20].max, colour: View.colour?(@output),
                  unicode: Encoding.default_external == Encoding::UTF_8)
      end

      def erase
        @height.zero? ? "" : "\e[#{@height}A\e[J"
      end
    end

    # A file, a pipe, a log of CI.
    class Lines
      PERIOD = 1.0

      def initialize(output)
        @output = output
        @output.sync = true
        @shown_at = 0.0
      end

      def say(line)
        @output.write("#{line}\n")
      end

      def begin(run)
        say(run.title)
      end

      def show(run, happening)
        line(run, happening) if happening
        progress(run) if Clock.now - @shown_at >= PERIOD
      end

      def finish(run)
        progress(run)
        say("")
      end

      private

      def progress(run)
        @shown_at = Clock.now
        states = run.fleet.nodes.map(&:state).tally.map { |state, count| "#{count} #{state}" }.join(", ")
        done = "#{Words.count(run.audit.processed)} of #{Words.count(run.messages)} messages, " \
               "#{Words.count(run.rate)}/s"
        line(run, run.swarm? ? "#{done}; nodes: #{states}" : done)
      end

      def line(run, text)
        say(format("  %<at>5.1f s  %<text>s", at: run.elapsed, text: text))
      end
    end
  end
end
