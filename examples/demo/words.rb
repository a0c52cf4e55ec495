# frozen_string_literal: true

module Demo
  # Numbers as people read them.
  module Words
    module_function

    # @return [String] "1,234"
    def count(number)
      number.round.to_s.gsub(/(?<=\d)(?=(\d{3})+\z)/, ",")
    end

    # @param seconds [Float, nil]
    # @return [String] "0.9 ms", "73 ms", "1.52 s"; "-" for nil
    def seconds(seconds)
      return "-" unless seconds
      return format("%.2f s", seconds) if seconds >= 1
      return format("%.0f ms", seconds * 1000) if seconds >= 0.01

      format("%.1f ms", seconds * 1000)
    end

    # @param width [Integer, nil] nil: no limit
    # @return [Array<String>] the line, broken between words; what follows stands below the text, not below its label
    def wrap(line, width)
      indent = line[/\A\s*(?:[A-Z][a-z]+(?: [a-z]+)? {2,})?/].size
      lines = []
      while width && line.size > width && (space = line.rindex(" ", width)) && space > indent
        lines << line[0...space]
        line = "#{' ' * indent}#{line[space..].lstrip}"
      end
      lines << line
    end

    def plural(number, word)
      "#{count(number)} #{word}#{'s' unless number == 1}"
    end
  end
end
